//! SQL expressions and queries over Arrow batches: the only place that names DataFusion or Arrow.
