use sandpool_guest::pool::futures::Executor;
use sandpool_guest::{Error, Pool};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    by_serde(&Pool::new()?, &Executor::new()?)?;
    by_value(&Pool::new()?)
}

#[allow(unused_must_use, reason = "the page shows the calls")]
fn by_serde(pool: &Pool, executor: &Executor) -> Result<(), Error> {
    fn score(model: &[f64; 2], text: String) -> f64 {
        model.iter().sum::<f64>() * text.len() as f64
    }
    let (model, inputs) = ([0.5, 1.5], [1.0, 2.0]);
    let (text, texts) = ("some text".to_owned(), ["one".to_owned(), "two".to_owned()]);

    let tripled = pool.partial(&3.0); // any value that serde knows; several are a tuple
    tripled.map(|by, n: f64| by * n, inputs)?; // fn(&S, A) -> R
    executor.partial(&model).submit(score, text)?;
    pool.options().chunksize(500).partial(&model).imap(score, texts)?;
    Ok(())
}

fn by_value(pool: &Pool) -> Result<(), Error> {
    fn load() -> Result<Vec<f64>, Error> {
        Ok((0..1000).map(f64::from).collect())
    }
    let inputs = [1.0, 2.0];

    let (by, plus) = (3.0, 0.5);
    // SAFETY: the closure holds numbers only.
    let scaled = unsafe { pool.partial_by_value(move |n: f64| n * by + plus) };
    scaled.map(|f, n| f(n), inputs)?;

    let model: &'static [f64] = load()?.leak();
    let pool = Pool::new()?;
    // SAFETY: the model was leaked before the pool was made, and its workers are forked.
    let at = unsafe { pool.partial_by_value(move |i: usize| model[i]) };
    at.map(|f, i| f(i), 0..1000)?;
    Ok(())
}
