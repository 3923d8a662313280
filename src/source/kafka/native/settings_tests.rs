use super::*;

fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn librdkafka_is_needed_for_what_only_it_understands() {
    for (pairs, needed) in [
        (&[][..], None),
        (&[("security.protocol", "sasl_ssl"), ("sasl.mechanism", "SCRAM-SHA-512")], None),
        (&[("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanisms", "PLAIN")], None),
        (&[("fetch.message.max.bytes", "1000000"), ("topic.metadata.refresh.interval.ms", "1000")], None),
        (&[("security.protocol", "sasl_plaintext")], Some("security.protocol")),
        (&[("sasl.mechanism", "GSSAPI")], Some("sasl.mechanism")),
        (&[("sasl.mechanisms", "OAUTHBEARER")], Some("sasl.mechanisms")),
        (&[("ssl.key.password", "secret")], Some("ssl.key.password")),
        (&[("enable.ssl.certificate.verification", "false")], Some("enable.ssl.certificate.verification")),
        (&[("ssl.endpoint.identification.algorithm", "none")], Some("ssl.endpoint.identification.algorithm")),
        (&[("client.rack", "a")], Some("client.rack")),
        // The last one counts.
        (&[("sasl.mechanism", "GSSAPI"), ("sasl.mechanisms", "PLAIN")], None),
        (&[("sasl.mechanisms", "PLAIN"), ("sasl.mechanism", "GSSAPI")], Some("sasl.mechanism")),
        (&[("security.protocol", "sasl_plaintext"), ("security.protocol", "ssl")], None),
        (&[("fetch.min.bytes", "1000")], Some("fetch.min.bytes")),
    ] {
        assert_eq!(needs_librdkafka(&options(pairs)), needed, "{pairs:?}");
    }
}

#[test]
fn settings_are_read_or_refused() {
    let settings = Settings::new("app".into(), &options(&[("fetch.message.max.bytes", "65536")])).unwrap();
    assert_eq!((settings.fetch_bytes, settings.timeout.as_secs()), (65_536, 60));
    let given = options(&[("fetch.message.max.bytes", "65536"), ("max.partition.fetch.bytes", "70000")]);
    assert_eq!(Settings::new("app".into(), &given).unwrap().fetch_bytes, 70_000);
    assert!(settings.tls.is_none() && settings.sasl.is_none());
    for (pairs, told) in [
        (&[("security.protocol", "tls")][..], "security.protocol"),
        (&[("socket.timeout.ms", "soon")], "socket.timeout.ms"),
        (&[("broker.address.family", "v5")], "broker.address.family"),
        (&[("security.protocol", "sasl_plaintext"), ("sasl.password", "hunter2")], "sasl.username"),
        (&[("security.protocol", "ssl"), ("ssl.ca.location", "/nowhere/ca.pem")], "ssl.ca.location"),
        (&[("security.protocol", "ssl"), ("ssl.ca.pem", "nothing of use")], "ssl.ca.location"),
    ] {
        let Err(error) = Settings::new("app".into(), &options(pairs)) else { panic!("{pairs:?}") };
        assert!(error.to_string().contains(told), "{error}");
        assert!(!error.whole_text().contains("hunter2"), "{error}");
    }
}
