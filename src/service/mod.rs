//! The service: command line, pipeline file, HTTP.
