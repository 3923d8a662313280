use datafusion as _; use proptest as _; #[test] fn t(){}
