//! Scenarios that are read, and mistakes in them that are told.

use std::collections::BTreeMap;

use super::*;

fn mistake(text: &str) -> ScenarioError {
    Scenario::parse(text).unwrap_err()
}

#[test]
fn the_scenarios_of_the_binary_are_scenarios() {
    for builtin in &BUILTINS {
        let scenario = Scenario::parse(builtin.text);
        assert!(scenario.is_ok(), "{}: {}", builtin.name, scenario.unwrap_err());
    }
}

#[test]
fn the_examples_in_the_documentation_are_scenarios() {
    let page = include_str!("../../../../../../docs/simulator.md");
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 5, "{} examples", examples.len());
    for example in examples {
        // Parts of a group are shown without their group.
        let whole = match example.contains("[[group]]") {
            true => example.to_owned(),
            false => format!("[[group]]\nname = 'g'\n{example}"),
        };
        let scenario = Scenario::parse(&whole);
        assert!(scenario.is_ok(), "{example}: {}", scenario.unwrap_err());
    }
}

#[test]
fn mistakes_name_their_line_and_what_was_meant() {
    for (text, line, expected) in [
        ("devices = 5\n[[group]]\nname = 'a'\nshar = 1", 4, "did you mean `share`?"),
        ("[[group]]\nname = 'a'\n[[group.method]]\nname = 'm'\ndelay = '5 parsecs'", 5, "250ms, 10s"),
        ("[[group]]\nname = 'a'\n[[group.method]]\nname = 'm'\ndelay = 5", 5, "a delay: \"20ms\""),
        ("[[group]]\nname = 'a'\n[group.flap]\nevery = { uniform = ['9s', '1s'] }", 4, "must not exceed"),
        ("[[group]]\nname = 'a'\n\n[[group]]\nname = 'a'", 4, "two groups `a`"),
        (
            "[[group]]\nname = 'a'\n[group.tags]\nx = { gen = 'cylce', of = [1] }",
            1,
            "unknown variant `cylce`",
        ),
        ("[[group]]\nname = 'a'\n[group.lie]\nanswers = 1.5", 1, "between 0 and 1"),
        ("[[group]]\nname = 'a'\n[[group.report]]\nevery = '0s'\nproperties = {a = 1}", 3, "at least 1ms"),
        ("[[group]]\nname = 'a'\n[[group.method]]\nname = 'a/b'", 3, "without `/`"),
        ("[[group]]\nname = 'a'\nshare = 0", 1, "no device would belong"),
        ("devices = 5", 1, "[[group]]"),
        ("[[group]]\nname = ", 2, ""),
    ] {
        let error = mistake(text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.message.contains(expected), "{text}: {error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

#[test]
fn shares_hold_in_every_stretch_of_devices() {
    let text = "[[group]]\nname = 'a'\nshare = 6\n[[group]]\nname = 'b'\nshare = 3\n[[group]]\nname = 'c'\nshare = 0\n[[group]]\nname = 'd'";
    let scenario = Scenario::parse(text).unwrap();
    for start in [0, 1_000, 99_000] {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for index in start..start + 1_000 {
            *counts.entry(&scenario.group_of(index).name).or_default() += 1;
        }
        let share = |name: &str| counts.get(name).copied().unwrap_or(0);
        assert!(share("a").abs_diff(600) < 5 && share("b").abs_diff(300) < 5, "{counts:?}");
        assert!(share("d").abs_diff(100) < 5 && share("c") == 0, "{counts:?}");
    }
}

#[test]
fn a_method_without_an_entry_is_the_one_for_all() {
    let text = "[[group]]\nname = 'a'\n[[group.method]]\nname = '*'\n[[group.method]]\nname = 'm'";
    let scenario = Scenario::parse(text).unwrap();
    let group = scenario.group_of(0);
    assert_eq!(group.method("m").map(|(place, _)| place), Some(1));
    assert_eq!(group.method("other").map(|(place, _)| place), Some(0));
}
