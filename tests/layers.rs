//! Checks which module of `src/` imports which: in one direction, without cycles. The graph comes
//! from the paths in the sources (`crate::…`, `super::…`), so it is always up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Graph = BTreeMap<String, BTreeSet<String>>;

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `src/transport/http1.rs` is `transport::http1`; `src/ffi/mod.rs` is `ffi`.
fn module(path: &Path, src: &Path) -> String {
    let relative = path.strip_prefix(src).unwrap().with_extension("");
    let mut parts: Vec<_> = relative
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts.join("::")
}

/// The source without comments and without the unit tests at its end, which may import any module.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The module paths that follow each `prefix`. Braces are expanded: `crate::{a, b::c}` gives both.
fn paths(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(position) = rest.find(prefix) {
        let before = rest[..position].chars().next_back();
        rest = &rest[position + prefix.len()..];
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let mut depth = 0;
        let end = rest
            .char_indices()
            .find(|(_, c)| {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                depth < 0 || (depth == 0 && !(c.is_alphanumeric() || "_:{}".contains(*c)))
            })
            .map_or(rest.len(), |(index, _)| index);
        expand("", &rest[..end], &mut found);
    }
    found
}

fn expand(head: &str, tail: &str, found: &mut Vec<String>) {
    match tail.split_once('{') {
        None => found.push(format!("{head}{tail}")),
        Some((before, inside)) => {
            let inside = inside.trim_end().trim_end_matches('}');
            let mut depth = 0;
            let parts = inside.split(|c| {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                c == ',' && depth == 0
            });
            for part in parts {
                expand(&format!("{head}{before}"), part.trim(), found);
            }
        }
    }
}

fn graph() -> Graph {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    files(&src, &mut sources);
    let modules: BTreeSet<String> = sources.iter().map(|path| module(path, &src)).collect();
    // Finds the longest module name that is a prefix of the path.
    let find = |path: &str| {
        let parts: Vec<&str> = path.split("::").map(str::trim).collect();
        (1..=parts.len())
            .rev()
            .map(|length| parts[..length].join("::"))
            .find(|candidate| modules.contains(candidate))
    };
    let mut graph = Graph::new();
    for path in &sources {
        let from = module(path, &src);
        if from == "lib" {
            continue;
        }
        let code = code(path);
        let parent = match path.file_stem().is_some_and(|stem| stem == "mod") {
            true => from.clone(),
            false => from
                .rsplit_once("::")
                .map_or("", |(parent, _)| parent)
                .to_owned(),
        };
        let mut targets: Vec<String> = paths(&code, "crate::");
        if from == parent {
            // Only `use`: a `pub use` in mod.rs re-exports an item without depending on it.
            for name in paths(&code, "\nuse ") {
                targets.push(format!("{parent}::{name}"));
            }
        } else {
            for name in paths(&code, "super::") {
                targets.push(match parent.as_str() {
                    "" => name,
                    parent => format!("{parent}::{name}"),
                });
            }
        }
        let used = targets
            .iter()
            .filter_map(|target| find(target))
            .filter(|to| *to != from && *to != "lib");
        graph.entry(from.clone()).or_default().extend(used);
    }
    graph
}

/// The modules of a cycle in order, if there is one.
fn cycle(graph: &Graph) -> Option<Vec<String>> {
    fn visit<'a>(
        graph: &'a Graph,
        module: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|on_way| *on_way == module) {
            let mut cycle: Vec<String> = way[start..].iter().map(|name| (*name).into()).collect();
            cycle.push(module.into());
            return Some(cycle);
        }
        if done.contains(module) {
            return None;
        }
        way.push(module);
        for next in graph.get(module).into_iter().flatten() {
            if let Some(cycle) = visit(graph, next, way, done) {
                return Some(cycle);
            }
        }
        way.pop();
        done.insert(module);
        None
    }
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|module| visit(graph, module, &mut Vec::new(), &mut done))
}

#[test]
fn the_imports_have_no_cycle() {
    let graph = graph();
    assert!(graph.len() > 25, "some sources were not found: {graph:?}");
    assert!(
        graph["client"].contains("engine") && graph["transport::pool"].contains("transport::http1"),
        "some imports were not recognized: {graph:#?}"
    );
    if let Some(cycle) = cycle(&graph) {
        panic!("these modules import one another: {}", cycle.join(" → "));
    }
}

/// No module imports the C boundary, and the transport imports nothing that is above it.
#[test]
fn the_imports_go_in_one_direction() {
    for (from, used) in graph() {
        let within = |module: &str, folder: &str| {
            module == folder || module.starts_with(&format!("{folder}::"))
        };
        for to in used {
            assert!(
                !within(&to, "ffi") || within(&from, "ffi"),
                "{from} imports {to}, but no module may import the C boundary"
            );
            assert!(
                !within(&from, "transport")
                    || !["client", "engine", "account", "retry", "schedule"].contains(&to.as_str()),
                "{from} imports {to}, which is above the transport"
            );
        }
    }
}

/// docs/ARCHITECTURE.md lists the modules from the top down.
#[test]
fn no_module_imports_one_that_is_listed_above_it() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
    let page = fs::read_to_string(page).unwrap();
    let order: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(module, _)| module)
        .collect();
    let place = |module: &str| {
        let top = module.split("::").next().unwrap_or_default();
        order
            .iter()
            .position(|listed| *listed == top)
            .unwrap_or_else(|| panic!("docs/ARCHITECTURE.md does not list {top}"))
    };
    for (from, used) in graph() {
        for to in used {
            assert!(
                place(&from) <= place(&to),
                "{from} imports {to}, which docs/ARCHITECTURE.md lists above {from}"
            );
        }
    }
    for listed in order {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        assert!(
            src.join(listed).is_dir() || src.join(listed).with_extension("rs").is_file(),
            "docs/ARCHITECTURE.md lists {listed}, but there is no such module"
        );
    }
}
