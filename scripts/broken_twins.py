#!/usr/bin/env python3
"""Breaks one rule of the real code at a time and lets the simulator look for it.

    scripts/broken_twins.py [--seconds S] [NUMBER...]

Each fault is put into a copy of the committed tree (a worktree of its own, beside a target directory of its own), the
simulator is built, and seeds of random faults and misbehaviour are played, S seconds of each kind at most (45 when left
out): 4 validators with long storms and with short ones, then 7, until one violates an invariant. Prints what was found and when. Ends with 1 when a fault
was not found, or when the code it changes is not there any more.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A name, and for each change a file, the code in it, and what takes its place. One rule that two places hold is broken in both.
FAULTS = [
    (
        "C without the look at the last timeout",
        [
            (
                "consensus/src/safety.rs",
                """        && below(&record.last_timeout, view) // C: last timed out < v
""",
                "",
            ),
        ],
    ),
    (
        "C without its three guards",
        [
            (
                "consensus/src/safety.rs",
                """    below(&record.last_commit_voted, view) // C: v > last commit-voted
        && below(&record.last_timeout, view) // C: last timed out < v
        && below(&record.last_voted, view.next()) // C: last voted <= v""",
                "    let _ = (record, view); true",
            ),
        ],
    ),
    (
        'V without "not voted yet"',
        [
            (
                "consensus/src/safety.rs",
                "below(&record.last_voted, view) && below(&record.last_timeout, view) // V",
                "below(&record.last_timeout, view)",
            ),
        ],
    ),
    (
        "V ignores the timeout certificate's high certificate",
        [
            (
                "consensus/src/safety.rs",
                "    if justify < allowed {",
                "    if justify < allowed && view == View::ZERO {",
            ),
        ],
    ),
    (
        "V without the timeout certificate",
        [
            (
                "consensus/src/safety.rs",
                """    let Some(tc) = tc.filter(|tc| view.follows(tc.view)) else {
        return Err(Reject::Unjustified { view, justify });
    };""",
                """    let Some(tc) = tc.filter(|tc| view.follows(tc.view)) else {
        return Ok(());
    };""",
            ),
            (
                "crypto/src/verifier.rs",
                """        None if certified != expected => Err(MessageFault::TimeoutCertMissing { view, certified, expected }),
""",
                "",
            ),
        ],
    ),
    (
        "half the power is a quorum",
        [
            (
                "types/src/validator.rs",
                "u128::from(power).saturating_mul(3) > u128::from(self.total_power()).saturating_mul(2)",
                "u128::from(power).saturating_mul(2) >= u128::from(self.total_power())",
            ),
        ],
    ),
    (
        "the record is written, not synced",
        [
            (
                "journal/src/journal.rs",
                """        self.files.sync(SAFETY)?;
        self.generation = generation;""",
                "        self.generation = generation;",
            ),
        ],
    ),
    (
        "bodies and certificates are written, not synced",
        [
            (
                "journal/src/log.rs",
                """        files.sync(&name)?;
        if opens {""",
                "        if opens {",
            ),
        ],
    ),
    (
        "nobody answers those who are behind (R)",
        [
            (
                "consensus/src/resend.rs",
                "        if *answered < ANSWERS_PER_PERIOD_MAX {",
                "        if *answered < ANSWERS_PER_PERIOD_MAX && to.0 == u16::MAX {",
            ),
        ],
    ),
    (
        "answers are counted per idle interval",
        [
            (
                "consensus/src/resend.rs",
                "self.answers.values().any(|answered| *answered >= ANSWERS_PER_PERIOD_MAX)",
                "false",
            ),
        ],
    ),
    (
        "the journal forgets bodies before the state is synced",
        [
            (
                "sim/src/executor.rs",
                """        for block in &landed {
            live.pool.remove(&block.transactions);""",
                """        for block in &landed {
            if let Some(journal) = live.journal.as_mut() { journal.prune(block.height); }
            live.pool.remove(&block.transactions);""",
            ),
        ],
    ),
    (
        "roots are not compared",
        [
            (
                "state/src/check.rs",
                """    equal(HeaderField::StateRoot, &header.state_root, &executed.state_root)?;
    equal(HeaderField::AnchorsRoot, &header.anchors_root, &executed.anchors_root)?;""",
                "",
            ),
        ],
    ),
    (
        "a restart forgets the last proposal",
        [
            (
                "consensus/src/recover.rs",
                "(recovered.record, recovered.high_qc,",
                "(SafetyRecord { last_proposed: None, ..recovered.record }, recovered.high_qc,",
            ),
        ],
    ),
    (
        "a carrier becomes part of the chain",
        [
            (
                "consensus/src/catchup.rs",
                "        let carriers = end.map(|at| blocks.split_off(at.saturating_add(1)));",
                "        let carriers = end.map(|_| Vec::new());",
            ),
        ],
    ),
    (
        "evidence takes no power",
        [
            (
                "state/src/governance.rs",
                "    Ok(rules.regime().after(&[Change::Leave(culprit)])?)",
                "    Ok(rules.regime().after(&[Change::Power { validator: culprit, power: 3 }])?)",
            ),
        ],
    ),
    (
        "the end of an epoch is not synced",
        [
            (
                "state/src/commit.rs",
                "self.commit_with(blocks, Durability::Synced, Some(proof))",
                "self.commit_with(blocks, Durability::Buffered, Some(proof))",
            ),
        ],
    ),
    (
        "the next epoch is counted with the set before",
        [
            (
                "state/src/epochs.rs",
                """        Ok(EpochBegin {
            set: Arc::clone(&rules.set),
            previous""",
                """        let set = match &rules.previous {
            Some(before) => cairn_types::ValidatorSet::new(epoch, before.validators().to_vec()),
            None => Ok((*rules.set).clone()),
        };
        Ok(EpochBegin {
            set: Arc::new(set.map_err(|fault| StateError::damaged("set", fault))?),
            previous""",
            ),
        ],
    ),
    (
        "what was signed in one epoch binds in the next",
        [
            (
                "consensus/src/recover.rs",
                "SafetyRecord { epoch: expected, ..SafetyRecord::default() }",
                "SafetyRecord { epoch: expected, ..recovered.record }",
            ),
        ],
    ),
    (
        "a claim of another epoch stops those who catch up",
        [
            (
                "catchup/src/machine.rs",
                "            Rest::EpochUnknown(from) if from > self.tip.height.next() => self.window.set_ceiling(from),",
                "            Rest::EpochUnknown(from) if from > Height::ZERO => self.window.set_ceiling(from),",
            ),
        ],
    ),
]


def build(tree, environment):
    """Builds the simulator in `tree`; gives the program."""
    command = ["cargo", "build", "--release", "--locked", "-p", "cairn-sim", "--example", "sim"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return pathlib.Path(environment["CARGO_TARGET_DIR"]) / "release" / "examples" / "sim"


def hunt(program, seconds):
    """Plays seeds until one violates an invariant; gives what and when, or nothing."""
    for validators, duration in (("4", "12s"), ("4", "3s"), ("7", "12s")):
        arguments = ["seeds", "--n", validators, "--duration", duration, "--minutes", str(seconds / 60)]
        played = subprocess.run([program, *arguments], capture_output=True, text=True)
        found = re.search(r"^seed (\d+) after ([\d.]+) s: (.*)$", played.stdout, re.MULTILINE)
        if found:
            seed, after, what = found.groups()
            return f"n = {validators}, {duration}, seed {seed}, after {after} s: {what[:160]}"
    return None


def try_one(tree, environment, fault, seconds):
    """Puts one fault in and takes it out again; gives whether it was found."""
    name, changes = fault
    texts = {}
    for file, good, bad in changes:
        text = (tree / file).read_text()
        if text.count(good) != 1:
            print(f"{name}: the code it changes is not in {file} any more", flush=True)
            return False
        texts[file] = (text, text.replace(good, bad))
    for file, (_, broken) in texts.items():
        (tree / file).write_text(broken)
    try:
        program = build(tree, environment)
        started = time.monotonic()
        found = hunt(program, seconds)
    finally:
        for file, (whole, _) in texts.items():
            (tree / file).write_text(whole)
    print(f"{name}: {found or f'NOT FOUND in {time.monotonic() - started:.0f} s'}", flush=True)
    return found is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=45)
    parser.add_argument("numbers", type=int, nargs="*", help=f"faults to try, 0 to {len(FAULTS) - 1}; all when left out")
    arguments = parser.parse_args()
    numbers = arguments.numbers or range(len(FAULTS))
    if any(not 0 <= number < len(FAULTS) for number in numbers):
        parser.error(f"expected numbers from 0 to {len(FAULTS) - 1}")
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target" / "broken-twins"))
    environment = dict(os.environ, CARGO_TARGET_DIR=target)
    with tempfile.TemporaryDirectory() as place:
        tree = pathlib.Path(place) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), "HEAD"], check=True)
        try:
            found = [try_one(tree, environment, FAULTS[number], arguments.seconds) for number in numbers]
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    print(f"{sum(found)} of {len(found)} found")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
