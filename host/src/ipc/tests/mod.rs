//! Tests of the arena as a whole: in many orders, with a death at each instruction, with any bytes in it.

#[cfg(test)]
mod collections;
#[cfg(test)]
pub(super) mod common;
pub(crate) mod damage;
#[cfg(test)]
mod death;
#[cfg(test)]
mod models;
#[cfg(test)]
mod scopes;
