//! The leaf of every plan: hands out the rows that this run was given.
