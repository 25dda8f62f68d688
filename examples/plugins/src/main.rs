//! Sends a text through plugins: `plugins FOLDER [STEP…]`, where a step is `PLUGIN.TASK`. Without a step, it lists the
//! available steps.
//!
//! A plugin is a WebAssembly module in the folder, and each of its tasks takes a text and returns one. A plugin that
//! misbehaves harms only itself: the text then goes on as it was before.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, anyhow};
use sandpool::pool::Isolation;
use sandpool::{Limits, Module, Pool, Sandbox};

type Plugins = BTreeMap<String, Module>;

fn main() -> anyhow::Result<()> {
    sandpool::init();
    let mut arguments = env::args().skip(1);
    let folder = arguments.next().context("usage: plugins FOLDER [PLUGIN.TASK…]")?;
    let steps: Vec<_> = arguments.collect();
    let plugins = discover(Path::new(&folder)).with_context(|| format!("cannot look into {folder}"))?;
    if steps.is_empty() {
        list(&plugins);
        return Ok(());
    }
    let text = io::read_to_string(io::stdin()).context("cannot read the text")?;
    io::stdout().write_all(run(&plugins, &steps, text)?.as_bytes())?;
    Ok(())
}

/// Returns the usable modules in a folder, by their names.
fn discover(folder: &Path) -> io::Result<Plugins> {
    let mut plugins = Plugins::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(OsStr::to_str) else { continue };
        if path.extension() != Some(OsStr::new("wasm")) {
            continue;
        }
        match Module::from_file(&path) {
            Ok(module) => _ = plugins.insert(name.to_owned(), module),
            Err(error) => {
                eprintln!("left out: {error}");
                if let Some(hint) = error.hint() {
                    eprintln!("hint: {hint}");
                }
            }
        }
    }
    Ok(plugins)
}

fn list(plugins: &Plugins) {
    for (name, module) in plugins {
        println!("{name}");
        for task in module.tasks() {
            println!("  {name}.{}: {}", task.name, task.summary());
        }
    }
}

/// Sends a text through the steps. A step that fails leaves the text unchanged.
fn run(plugins: &Plugins, steps: &[String], mut text: String) -> anyhow::Result<String> {
    // All are known before the first is taken.
    let mut tasks = Vec::new();
    for step in steps {
        let (name, task) = step.split_once('.').with_context(|| format!("`{step}` is not PLUGIN.TASK"))?;
        let module = plugins.get(name).with_context(|| format!("there is no plugin {name}"))?;
        module.task(task).map_err(|error| match error.hint() {
            Some(hint) => anyhow!("{error} ({hint})"),
            None => anyhow!(error),
        })?;
        tasks.push((name, module, task));
    }
    let mut pools = BTreeMap::new();
    for (step, (name, module, task)) in steps.iter().zip(tasks) {
        let pool = match pools.entry(name) {
            Entry::Occupied(pool) => Ok(&*pool.into_mut()),
            Entry::Vacant(place) => start(module).map(|pool| &*place.insert(pool)),
        };
        let changed = pool.map_err(anyhow::Error::from).and_then(|pool| Ok(pool.apply(task, &text)?));
        match changed {
            Ok(changed) => text = changed,
            Err(error) => eprintln!("{step} is left out: {error:#}"),
        }
    }
    Ok(text)
}

/// Starts what a plugin runs in. It can see the text that it is given, and nothing else: no file, no variable, nothing
/// that it has seen before.
fn start(module: &Module) -> sandpool::Result<Pool> {
    Pool::builder(module)
        .sandbox(Sandbox::new().limits(Limits::default().memory_max(32 << 20)))
        .processes(1)
        .isolation(Isolation::Task)
        .output_max(1 << 20)
        .task_timeout(Duration::from_secs(2))
        .start_timeout(Duration::from_secs(2))
        .build()
}
