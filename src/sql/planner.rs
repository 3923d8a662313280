//! Names of streams and SQL in, prepared queries and groupings out. All planning happens here, before the first batch.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, TableReference};
use datafusion::datasource::TableProvider;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::window::{PlainAggregateWindowExpr, SlidingAggregateWindowExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::Statement;

use crate::sql::contains::LikeToContains;
use crate::sql::error::Relations;
use crate::sql::flat::flat;
use crate::sql::functions::BATCH_TIME;
use crate::sql::in_order::in_order;
use crate::sql::query::block_on;
use crate::sql::source::StreamTable;
use crate::sql::{Condition, DataType, Grouping, Query, SchemaRef, SqlError, grouping};

/// Knows the streams that SQL may read, and plans over them.
pub(crate) struct Planner {
    context: SessionContext,
    streams: BTreeMap<String, SchemaRef>,
    dialect: Dialect,
}

/// Who writes the SQL: decides the words of messages, never what SQL means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// The author of a pipeline file, which has streams.
    Pipeline,
    /// A program with a session, which has views.
    Session,
    /// Somebody who asks a pipeline, which has tables; nothing of it is ever run again.
    Questions,
}

impl Planner {
    /// A planner that knows no stream.
    pub(crate) fn new() -> Self {
        Self::speaking(Dialect::Pipeline)
    }

    /// The same, whose messages call what can be read a view.
    pub(crate) fn of_views() -> Self {
        Self::speaking(Dialect::Session)
    }

    /// The same for questions to a pipeline, which may ask for the time.
    pub(crate) fn of_tables() -> Self {
        Self::speaking(Dialect::Questions)
    }

    fn speaking(dialect: Dialect) -> Self {
        let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
        let options = config.options_mut();
        options.sql_parser.collect_spans = true;
        // Filters that an operator changes while it runs are state shared between runs, for rows that are in memory anyway.
        options.optimizer.enable_dynamic_filter_pushdown = false;
        options.optimizer.enable_topk_dynamic_filter_pushdown = false;
        options.optimizer.enable_join_dynamic_filter_pushdown = false;
        options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
        // Subqueries become joins, which keep nothing between runs.
        options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        options.optimizer.enable_round_robin_repartition = false;
        // A recursion may never end.
        options.execution.enable_recursive_ctes = false;
        // What is merged must have been grouped, however many keys there are.
        options.execution.skip_partial_aggregation_probe_ratio_threshold = 1.1;
        // A key that is the same for all rows is a key like any other to what merges groups.
        let rules =
            Optimizer::new().rules.into_iter().filter(|rule| rule.name() != "eliminate_group_by_constant");
        // Last, since DataFusion's rules know more of `like`.
        let last: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(LikeToContains::new());
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_optimizer_rules(rules.chain([last]).collect())
            // `generate_series(…)` and the like are no streams.
            .with_table_functions(HashMap::new())
            .build();
        // No two functions have one name.
        let registered = super::functions::register(&mut state);
        debug_assert!(registered.is_ok(), "{registered:?}");
        let context = SessionContext::new_with_state(state);
        Self { context, streams: BTreeMap::new(), dialect }
    }

    /// Makes the stream `name` known to the queries planned from now on; a second one of that name replaces the first.
    pub(crate) fn register(&mut self, name: &str, schema: SchemaRef) {
        let table: Arc<dyn TableProvider> = Arc::new(StreamTable::new(name, Arc::clone(&schema)));
        let reference = TableReference::bare(name);
        // Neither can fail: the default catalog is in memory, and a name that was there is taken out first.
        let _ = self.context.deregister_table(reference.clone());
        let _ = self.context.register_table(reference, table);
        self.streams.insert(name.to_owned(), schema);
    }

    /// Forgets the stream `name`; false if there was none.
    pub(crate) fn deregister(&mut self, name: &str) -> bool {
        let _ = self.context.deregister_table(TableReference::bare(name));
        self.streams.remove(name).is_some()
    }

    /// The columns of the stream `name`, if there is one.
    pub(crate) fn schema(&self, name: &str) -> Option<&SchemaRef> {
        self.streams.get(name)
    }

    /// The prepared query of one `select` statement.
    ///
    /// # Errors
    /// The text is no single `select`, names a stream, column or function that is not known, does not fit in types, or
    /// asks for what a replay could not repeat (`now()`, `random()`).
    pub(crate) fn query(&self, sql: &str) -> Result<Query, SqlError> {
        let state = self.context.state();
        let (physical, inputs) = self.physical_in(&state, sql)?;
        check_columns(sql, &physical)?;
        check_operators(sql, &physical)?;
        Ok(Query::new(physical, &state, inputs))
    }

    /// The plan of one `select`.
    pub(super) fn physical(&self, sql: &str) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
        Ok(self.physical_in(&self.context.state(), sql)?.0)
    }

    fn physical_in(&self, state: &SessionState, sql: &str) -> Result<Planned, SqlError> {
        let logical = self.logical_in(state, sql)?;
        let inputs = self.streams_of(&logical);
        let failed = |error| SqlError::from_datafusion(sql, &error, &self.readable());
        let plan = block_on(state.create_physical_plan(&logical))
            .and_then(in_order)
            .and_then(flat)
            .map_err(failed)?;
        check_aggregates(sql, &plan, failed)?;
        Ok((plan, inputs))
    }

    /// The prepared condition `text` over the columns of `schema`.
    ///
    /// # Errors
    /// As for [`query`](Self::query); also when it is no condition, or looks at more than one row.
    pub(crate) fn condition(&self, schema: &SchemaRef, text: &str) -> Result<Condition, SqlError> {
        // Planned as a query first, which finds all that is wrong with it and tells it in the same words.
        const SELECT: &str = "select * from \"#row\" where ";
        let alone = self.alone(schema);
        let placed = |error: SqlError| SqlError {
            offset: error.offset.map(|(line, column)| match line {
                1 => (1, column.saturating_sub(SELECT.len() as u64).max(1)),
                _ => (line, column),
            }),
            sql: text.to_owned(),
            ..error
        };
        alone.query(&format!("{SELECT}{text}")).map_err(placed)?;
        let expression = self
            .row_expression(schema, text)
            .map_err(|error| SqlError::from_datafusion(text, &error, &self.readable()))?;
        Ok(Condition::new(expression, text))
    }

    /// A planner that knows nothing but `#row`, of these columns.
    pub(super) fn alone(&self, row: &SchemaRef) -> Self {
        let mut alone = Self::speaking(self.dialect);
        alone.register("#row", Arc::clone(row));
        alone
    }

    /// What works out the expression `text` over the columns of `row`.
    pub(super) fn row_expression(
        &self,
        row: &SchemaRef,
        text: &str,
    ) -> datafusion::common::Result<Arc<dyn PhysicalExpr>> {
        let columns = Arc::new(DFSchema::try_from(Arc::clone(row))?);
        let state = self.context.state();
        let expression = state.create_logical_expr(text, &columns)?;
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&columns))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        // Some functions, `coalesce` for one, are made of others here and cannot be run as they are.
        let simplifier = ExprSimplifier::new(context);
        let expression = simplifier.simplify(simplifier.coerce(expression, &columns)?)?;
        state.create_physical_expr(expression, &columns)
    }

    /// The prepared grouping of stream `from` by the expressions `key` (`tag`, `lower(tag) as tag`), with one aggregate
    /// call for each output column of `values` (`("n", "count(*)")`). Without keys all rows are one group.
    ///
    /// # Errors
    /// As for [`query`](Self::query), with the one wrong expression as the error's text; also when a value is not one
    /// call of an aggregate that can be merged, or two columns have the same name.
    pub(crate) fn grouping(
        &self,
        from: &str,
        key: &[String],
        values: &[(String, String)],
    ) -> Result<Grouping, SqlError> {
        grouping::plan(self, from, key, values)
    }

    /// What may be read, as messages name it.
    pub(super) fn readable(&self) -> Relations {
        let noun = match self.dialect {
            Dialect::Pipeline => "stream",
            Dialect::Session => "view",
            Dialect::Questions => "table",
        };
        Relations { noun, names: self.names() }
    }

    /// The names of the streams, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.streams.keys().cloned().collect()
    }

    /// The checked but not optimized plan of one `select`.
    pub(super) fn logical(&self, sql: &str) -> Result<LogicalPlan, SqlError> {
        self.logical_in(&self.context.state(), sql)
    }

    fn logical_in(&self, state: &SessionState, sql: &str) -> Result<LogicalPlan, SqlError> {
        let failed = |error| SqlError::from_datafusion(sql, &error, &self.readable());
        let statement = parse_select(sql, self.dialect, &failed)?;
        let plan = block_on(state.statement_to_plan(statement)).map_err(failed)?;
        let only_select =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        only_select.verify_plan(&plan).map_err(failed)?;
        if self.dialect != Dialect::Questions {
            check_repeatable(sql, &plan)?;
        }
        Ok(plan)
    }

    /// The streams that `plan` scans. Taken before optimization, which drops the scan of `… where false`.
    fn streams_of(&self, plan: &LogicalPlan) -> Vec<(String, SchemaRef)> {
        let mut names = BTreeSet::new();
        visit(plan, &mut |node| {
            if let LogicalPlan::TableScan(scan) = node {
                names.insert(scan.table_name.table().to_owned());
            }
        });
        names
            .into_iter()
            .filter_map(|name| self.streams.get(&name).map(|schema| (name, Arc::clone(schema))))
            .collect()
    }
}

/// A plan, and the streams that it reads.
type Planned = (Arc<dyn ExecutionPlan>, Vec<(String, SchemaRef)>);

/// The one `select` that `sql` consists of.
fn parse_select(
    sql: &str,
    dialect: Dialect,
    failed: &dyn Fn(DataFusionError) -> SqlError,
) -> Result<DfStatement, SqlError> {
    let parse = || DFParserBuilder::new(sql).build()?.parse_statements();
    let mut statements = parse().map_err(failed)?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(DfStatement::Statement(statement)), true) if matches!(*statement, Statement::Query(_)) => {
            Ok(DfStatement::Statement(statement))
        }
        (None, _) => Err(SqlError::new(sql, "there is no SQL here").with_hint("write a `select … from …`")),
        (_, false) => {
            Err(SqlError::new(sql, "there is more than one statement here").with_hint(match dialect {
                Dialect::Pipeline => "a stream is one `select`; use `with … as (…)` or several streams",
                Dialect::Session => "use `with … as (…)`, or run them one after the other",
                Dialect::Questions => "ask one question at a time",
            }))
        }
        _ => Err(SqlError::new(sql, "only a `select` can stand here").with_hint(match dialect {
            Dialect::Pipeline => "streams are read with `select`; outputs are written by `outputs:`",
            Dialect::Session => "views are read with `select`, and made by `create_or_replace_temp_view`",
            Dialect::Questions => "questions change nothing",
        })),
    }
}

/// Calls `look` with each node of `plan`, those of its subqueries too.
pub(super) fn visit(plan: &LogicalPlan, look: &mut dyn FnMut(&LogicalPlan)) {
    let visited = plan.apply_with_subqueries(|node| {
        look(node);
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "looking at a plan cannot fail");
}

/// Refuses what gives another value each time: a batch that is run again must give the same bytes.
fn check_repeatable(sql: &str, plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut found = None;
    visit(plan, &mut |node| {
        let _ = node.apply_expressions(|root| {
            root.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.signature().volatility != Volatility::Immutable
                    && call.func.name() != BATCH_TIME
                {
                    found.get_or_insert_with(|| Arc::clone(&call.func));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        });
    });
    let Some(function) = found else { return Ok(()) };
    let mut words = vec![function.name()];
    words.extend(function.aliases().iter().map(String::as_str));
    let message = format!("`{}()` gives another value each time a batch is run", function.name());
    let hint = "a batch that is run again must give the same output: take the time or an id from the records";
    Err(SqlError::new(sql, message).with_hint(hint).at_word(&words))
}

/// Refuses columns of the same name, which a sink or another query could not tell apart.
fn check_columns(sql: &str, plan: &Arc<dyn ExecutionPlan>) -> Result<(), SqlError> {
    let mut seen = BTreeSet::new();
    if let Some(field) =
        plan.schema().fields().iter().find(|field| matches!(field.data_type(), DataType::Union(..)))
    {
        return Err(SqlError::new(sql, format!("the column `{}` is JSON of any type", field.name()))
            .with_hint("take it out as text with `->>`, or with json_get_int, json_get_float, json_get_bool, json_get_str"));
    }
    match plan.schema().fields().iter().find(|field| !seen.insert(field.name().clone())) {
        Some(field) => Err(SqlError::new(sql, format!("two columns are called `{}`", field.name()))
            .with_hint("give one of them another name with `as`")),
        None => Ok(()),
    }
}

/// Begins each aggregate of `plan` once: some look at their arguments only then, which would be with the first batch.
fn check_aggregates(
    sql: &str,
    plan: &Arc<dyn ExecutionPlan>,
    failed: impl Fn(DataFusionError) -> SqlError,
) -> Result<(), SqlError> {
    let mut wrong = None;
    let mut begin = |aggregate: &AggregateFunctionExpr| {
        if let (None, Err(error)) = (&wrong, aggregate.create_accumulator()) {
            let error = failed(error);
            wrong = Some(SqlError { sql: sql.to_owned(), ..error }.at_word(&[aggregate.fun().name()]));
        }
    };
    let _ = plan.apply(|node| {
        if let Some(grouped) = node.downcast_ref::<AggregateExec>() {
            grouped.aggr_expr().iter().for_each(|aggregate| begin(aggregate));
        }
        let over_rows = node.downcast_ref::<BoundedWindowAggExec>().map(BoundedWindowAggExec::window_expr);
        let over = over_rows.or_else(|| node.downcast_ref::<WindowAggExec>().map(WindowAggExec::window_expr));
        for window in over.into_iter().flatten() {
            let window: &dyn Any = window.as_any();
            let plain = window.downcast_ref::<PlainAggregateWindowExpr>();
            let sliding = window.downcast_ref::<SlidingAggregateWindowExpr>();
            plain.map(PlainAggregateWindowExpr::get_aggregate_expr).into_iter().for_each(&mut begin);
            sliding.map(SlidingAggregateWindowExpr::get_aggregate_expr).into_iter().for_each(&mut begin);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    wrong.map_or(Ok(()), Err)
}

/// Refuses operators that need threads of their own. The configuration asks for none; this is to be sure.
fn check_operators(sql: &str, plan: &Arc<dyn ExecutionPlan>) -> Result<(), SqlError> {
    let mut refused = None;
    let _ = plan.apply(|node| {
        if matches!(
            node.name(),
            "RepartitionExec" | "CoalescePartitionsExec" | "LazyMemoryExec" | "RecursiveQueryExec"
        ) {
            refused = Some(node.name().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match refused {
        Some(name) => Err(SqlError::new(
            sql,
            format!("this query would need the operator {name}, which is not supported"),
        )
        .with_hint("please report it, with the query")),
        None => Ok(()),
    }
}
