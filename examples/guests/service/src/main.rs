//! Tasks that a shop runs on the service: the cost of orders.

use serde::{Deserialize, Serialize};

/// The percentage that is added to the net price.
const TAX: u64 = 20;

#[derive(Deserialize)]
struct Order {
    customer: String,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    quantity: u64,
    /// the price of one, in cents
    price: u64,
}

/// Amounts are in cents.
#[derive(Serialize)]
struct Invoice {
    customer: String,
    net: u64,
    tax: u64,
    total: u64,
}

/// The price of an order, in cents. An order of nothing is an error.
#[sandpool_guest::task]
fn invoice(order: Order) -> Result<Invoice, String> {
    if order.lines.is_empty() {
        return Err(format!("{} has ordered nothing", order.customer));
    }
    let costs = |line: &Line| line.quantity.checked_mul(line.price);
    let net = order.lines.iter().try_fold(0_u64, |sum, line| sum.checked_add(costs(line)?));
    let net = net.and_then(|net| Some((net, net.checked_mul(TAX)? / 100)));
    let Some((net, tax)) = net else { return Err("nobody has so much money".to_owned()) };
    Ok(Invoice { customer: order.customer, net, tax, total: net + tax })
}

/// The address of a page about an article: its title in lower case, with hyphens between words.
#[sandpool_guest::task]
fn slug(title: String) -> String {
    let lower = title.to_lowercase();
    let words: Vec<_> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-")
}

fn main() {}
