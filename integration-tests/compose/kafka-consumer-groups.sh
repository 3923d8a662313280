#!/bin/bash
exec java ${KAFKA_HEAP_OPTS:-} -cp '/opt/kafka/libs/*' -Dorg.slf4j.simpleLogger.defaultLogLevel=warn org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"
