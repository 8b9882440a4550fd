#!/usr/bin/env python3
"""The steps of scripts/bench.sh: starts networks, loads them, reads their counters, writes tables and plots.

Standard library only. Every figure is a difference of counters over the measured part of a load run, or what
`cairn load --json` reports; nothing is estimated."""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

# A fresh network is slower for some seconds: memory and files are touched for the first time.
WARMUP_S = 8
RAMP = [500, 1000, 1500, 2000, 2500, 3000, 3300, 3600, 4200, 5000]
# A step is sustained when this part of what was due became final within the window.
SUSTAINED = 0.97
# `cairn load` signs at most this many transactions ahead.
SIGNED_AHEAD_MAX = 200_000
COLUMNS = [
    ("step", "step", "{}"),
    ("asked", "asked/s", "{:.0f}"),
    ("final", "final/s", "{:.0f}"),
    ("proofs", "proofs/s", "{:.0f}"),
    ("p50", "p50 ms", "{:.0f}"),
    ("p95", "p95 ms", "{:.0f}"),
    ("p99", "p99 ms", "{:.0f}"),
    ("sent_p99", "p99 after sending", "{:.0f}"),
    ("refused", "refused", "{:.0f}"),
    ("cpu_ms", "CPU ms/tx", "{:.2f}"),
    ("cpu_multiple", "x unavoidable", "{:.1f}"),
    ("own_cpu_ms", "generator ms/tx", "{:.2f}"),
    ("interval_ms", "block ms", "{:.0f}"),
    ("block_tx", "tx/block", "{:.0f}"),
    ("mesh_bytes", "mesh B/tx", "{:.0f}"),
    ("disk_bytes", "written B/tx", "{:.0f}"),
    ("rss_mib", "node MiB", "{:.0f}"),
]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def counters(text):
    """name{labels} -> value of a metrics page."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


class Network:
    """Four validators in a folder of their own, for the length of a `with`."""

    def __init__(self, cairn, env=None):
        self.cairn = cairn
        self.env = {**os.environ, **(env or {})}

    def __enter__(self):
        self.scratch = Path(tempfile.mkdtemp(prefix="cairn-bench-"))
        self.dir = self.scratch / "network"
        subprocess.run([self.cairn, "testnet", "up", "--dir", self.dir, "--base-port", "0"], check=True, capture_output=True, env=self.env)
        self.nodes = range(len(list(self.dir.glob("node-*.pid"))))
        self.metrics = [self.metrics_url(node) for node in self.nodes]
        return self

    def __exit__(self, *_):
        subprocess.run([self.cairn, "testnet", "clean", "--dir", self.dir], capture_output=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def metrics_url(self, node):
        config = (self.dir / f"node-{node}" / "config.toml").read_text()
        return "http://" + re.search(r'metrics_listen\s*=\s*"([^"]+)"', config)[1] + "/metrics"

    def pid(self, node):
        return int((self.dir / f"node-{node}.pid").read_text())

    def written(self):
        total = 0
        for node in self.nodes:
            for line in Path(f"/proc/{self.pid(node)}/io").read_text().splitlines():
                if line.startswith("write_bytes:"):
                    total += int(line.split()[1])
        return total

    def snapshot(self):
        pages = [counters(get(url)) for url in self.metrics]
        return {"at": time.monotonic(), "pages": pages, "written": self.written()}

    def load(self, *args):
        command = [self.cairn, "load", "--json", "--dir", self.dir, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
        return json.loads(done.stdout)


def total(pages, prefix, having=""):
    return sum(value for page in pages for name, value in page.items() if name.startswith(prefix) and having in name)


# `unavoidable_ms`: one verification on this machine, which each node has to do; measured by `cairn load` itself.
def measure(cairn, step, rate, seconds, unavoidable_ms, proofs=1, connections=64, warmup=WARMUP_S, inline=False, env=None):
    """One load on a fresh network; its senders are registered, or with `inline` carry their key each time."""
    warmup = min(warmup, SIGNED_AHEAD_MAX // (2 * max(rate, 1)))
    seconds = max(1, min(seconds, SIGNED_AHEAD_MAX // max(rate, 1) - warmup))
    with Network(cairn, env) as network:
        before = network.snapshot()
        keys = [] if inline else ["--registered"]
        report = network.load("--rate", rate, "--duration", seconds, "--warmup", warmup, "--connections", connections, "--proofs", proofs, *keys)
        after = network.snapshot()
    delta = lambda prefix, having="": total(after["pages"], prefix, having) - total(before["pages"], prefix, having)
    nodes = len(after["pages"])
    landed = delta("cairn_transactions_total") / nodes
    blocks = delta("cairn_height") / nodes
    sending_s = seconds + warmup
    row = {
        "step": step,
        "asked": rate,
        "final": report["final_per_second"],
        "proofs": report["final_per_second"] * proofs,
        "p50": report["finality"]["p50_ms"],
        "p95": report["finality"]["p95_ms"],
        "p99": report["finality"]["p99_ms"],
        "sent_p99": report["finality_after_sending"]["p99_ms"],
        "refused": sum(report["errors"].values()),
        "cpu_ms": report["cpu_ms_per_transaction"] or 0.0,
        "own_cpu_ms": report["load_cpu_ms_per_transaction"] or 0.0,
        "interval_ms": 1000 * sending_s / max(blocks, 1),
        "block_tx": landed / max(blocks, 1),
        "mesh_bytes": delta("p2p_mesh_bytes_total", 'direction="out"') / max(landed, 1),
        "disk_bytes": (after["written"] - before["written"]) / max(landed, 1),
        "rss_mib": max(node["resident_mib"] for node in report["nodes"]),
        "pulled": delta("cairn_transactions_pulled_total"),
        "report": report,
        "stages": stages(before["pages"], after["pages"]),
    }
    row["cpu_multiple"] = row["cpu_ms"] / (nodes * unavoidable_ms)
    print(line(row), flush=True)
    return row


def stages(before, after):
    """Mean of each stage of a finality, ms, over all nodes."""
    names = ["admit", "wait", "execute", "vote", "commit_vote", "commit"]
    found = {}
    for name in names:
        label = f'stage="{name}"'
        parts = [total(after, f"cairn_stage_seconds_{what}", label) - total(before, f"cairn_stage_seconds_{what}", label) for what in ("sum", "count")]
        found[name] = 1000 * parts[0] / parts[1] if parts[1] else 0.0
    return found


def line(row):
    cells = [form.format(row.get(key, 0)) for key, _, form in COLUMNS]
    return "  ".join(cell.rjust(width_of(title)) for cell, (_, title, _) in zip(cells, COLUMNS))


def width_of(title):
    return 30 if title == "step" else max(len(title), 7)


def heading():
    return "  ".join(title.rjust(width_of(title)) for _, title, _ in COLUMNS)


def single(cairn, count):
    with Network(cairn) as network:
        before = network.snapshot()
        report = network.load("--single", count)
        after = network.snapshot()
    return report, stages(before["pages"], after["pages"])


def svg_plot(title, x_title, y_title, series):
    """Lines of (name, [(x, y)]) as one SVG text."""
    width, height, left, bottom, top, right = 720, 420, 70, 50, 40, 170
    points = [point for _, line in series for point in line]
    x_max = max((x for x, _ in points), default=1) * 1.05 or 1
    y_max = max((y for _, y in points), default=1) * 1.1 or 1
    px = lambda x: left + (width - left - right) * x / x_max
    py = lambda y: height - bottom - (height - bottom - top) * y / y_max
    colours = ["#1b6ca8", "#c8553d", "#4a8f4a", "#8a5fb0", "#b08a2e"]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="22" font-size="15">{title}</text>']
    for tick in range(6):
        x, y = x_max * tick / 5, y_max * tick / 5
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 8}" y="{py(y) + 4:.1f}" text-anchor="end">{y:.0f}</text>')
        out.append(f'<text x="{px(x):.1f}" y="{height - bottom + 18}" text-anchor="middle">{x:.0f}</text>')
    out.append(f'<text x="{(left + width - right) / 2}" y="{height - 10}" text-anchor="middle">{x_title}</text>')
    out.append(f'<text x="16" y="{height / 2}" transform="rotate(-90 16 {height / 2})" text-anchor="middle">{y_title}</text>')
    for index, (name, line_points) in enumerate(series):
        colour = colours[index % len(colours)]
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in line_points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in line_points]
        out.append(f'<text x="{width - right + 12}" y="{top + 18 * index + 10}" fill="{colour}">{name}</text>')
    return "\n".join(out + ["</svg>", ""])


def svg_timeline(title, found):
    """Stages one after another, to scale."""
    width, row, left = 720, 34, 130
    whole = sum(found.values()) or 1
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {row * (len(found) + 2)}" font-family="sans-serif" font-size="13">',
           f'<rect width="{width}" height="{row * (len(found) + 2)}" fill="white"/><text x="10" y="22" font-size="15">{title}: {whole:.1f} ms</text>']
    at = 0.0
    for index, (name, ms) in enumerate(found.items()):
        x, w, y = left + (width - left - 90) * at / whole, max(1.0, (width - left - 90) * ms / whole), row * (index + 1)
        out.append(f'<text x="10" y="{y + 20}">{name}</text><rect x="{x:.1f}" y="{y + 6}" width="{w:.1f}" height="{row - 14}" fill="#1b6ca8"/>')
        out.append(f'<text x="{x + w + 6:.1f}" y="{y + 20}">{ms:.2f} ms</text>')
        at += ms
    return "\n".join(out + ["</svg>", ""])


def text_timeline(found):
    whole, at, lines = sum(found.values()) or 1, 0.0, []
    for name, ms in found.items():
        before, bar = int(50 * at / whole), max(1, round(50 * ms / whole))
        lines.append(f"  {name:<12} {ms:8.2f} ms  {' ' * before}{'#' * bar}")
        at += ms
    return "\n".join(lines)


def ramp(args, unavoidable_ms):
    rates = [int(rate) for rate in args.rates.split()] or RAMP
    rows = []
    for rate in rates:
        row = measure(args.cairn, f"ramp {rate}", rate, args.seconds, unavoidable_ms)
        rows.append(row)
        if row["final"] < SUSTAINED * rate and row["asked"] >= 1.3 * max(it["final"] for it in rows):
            break
    return rows


def peak_of(cairn, name, args, unavoidable_ms, **how):
    """More than the network takes, over enough connections to keep it full."""
    return measure(cairn, name, 6000, args.seconds, unavoidable_ms, connections=128, **how)


def modes(args, unavoidable_ms):
    """The peak with one step left out at a time, by a benchmark build, beside the peak of the ordinary build."""
    rows = []
    for size, inline in (("3.5 kB", False), ("5.5 kB", True)):
        rows.append(peak_of(args.cairn, f"{size}, everything", args, unavoidable_ms, inline=inline))
        for left_out in ("verification", "sync", "execution", "verification,sync,execution"):
            env = {"CAIRN_BENCH_WITHOUT": left_out}
            name = left_out if "," not in left_out else "all three"
            rows.append(peak_of(args.modes, f"{size}, without {name}", args, unavoidable_ms, inline=inline, env=env))
    return rows


def write(output, rows, idle, idle_stages):
    output.mkdir(parents=True, exist_ok=True)
    with open(output / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([key for key, _, _ in COLUMNS] + ["pulled"])
        writer.writerows([[row.get(key) for key, _, _ in COLUMNS] + [row.get("pulled")] for row in rows])
    (output / "results.json").write_text(json.dumps({"idle": idle, "idle_stages_ms": idle_stages, "steps": rows}, indent=1))
    steps = [row for row in rows if row["step"].startswith("ramp")]
    (output / "throughput.svg").write_text(svg_plot(
        "Final transactions", "offered transactions/s", "final transactions/s",
        [("final", [(row["asked"], row["final"]) for row in steps]), ("offered", [(row["asked"], row["asked"]) for row in steps])]))
    sustained = [row for row in steps if row["final"] >= SUSTAINED * row["asked"]] or steps
    (output / "finality.svg").write_text(svg_plot(
        "Finality, from when a transaction was due", "offered transactions/s", "ms",
        [(name, [(row["asked"], row[name]) for row in sustained]) for name in ("p50", "p95", "p99")]))
    (output / "cpu.svg").write_text(svg_plot(
        "CPU of four nodes", "offered transactions/s", "ms per transaction", [("CPU", [(row["asked"], row["cpu_ms"]) for row in sustained])]))
    (output / "timeline-idle.svg").write_text(svg_timeline("One anchor on an idle network", idle_stages))
    if sustained:
        (output / "timeline-loaded.svg").write_text(svg_timeline(f"One of {sustained[-1]['asked']} anchors/s", sustained[-1]["stages"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cairn", required=True)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rates", default="")
    parser.add_argument("--proofs", default="1 16 256")
    parser.add_argument("--modes", type=Path, help="a benchmark build: measure what each step costs, and nothing else")
    args = parser.parse_args()
    print("\nOne anchor after another on an idle network", flush=True)
    idle, idle_stages = single(args.cairn, 200)
    unavoidable_ms = idle["verification_ms"]
    receipt = idle["receipt"]
    print(f"  p50 {receipt['p50_ms']:.1f}  p95 {receipt['p95_ms']:.1f}  p99 {receipt['p99_ms']:.1f} ms; one verification {1000 * unavoidable_ms:.0f} us")
    print(text_timeline(idle_stages))
    print("\n" + heading(), flush=True)
    if args.modes:
        return write(args.output, modes(args, unavoidable_ms), idle, idle_stages)
    rows = ramp(args, unavoidable_ms)
    good = [row for row in rows if row["final"] >= SUSTAINED * row["asked"]]
    peak = max(row["final"] for row in rows)
    top = max((row["asked"] for row in good), default=rows[0]["asked"])
    rows.append(measure(args.cairn, "half load", top // 2, 2 * args.seconds, unavoidable_ms))
    rows.append(measure(args.cairn, "half load, inline keys", top // 2, args.seconds, unavoidable_ms, inline=True))
    for factor in (2, 10):
        rows.append(measure(args.cairn, f"{factor}x overload", int(factor * peak), args.seconds, unavoidable_ms, connections=256))
    for proofs in args.proofs.split():
        rate = max(20, top // 2 if int(proofs) == 1 else top // (2 + int(proofs) // 8))
        rows.append(measure(args.cairn, f"{proofs} proofs", rate, args.seconds, unavoidable_ms, proofs=int(proofs)))
    write(args.output, rows, idle, idle_stages)
    if good:
        print(f"\nWhere the time goes at {good[-1]['asked']}/s\n{text_timeline(good[-1]['stages'])}")
    print(f"\npeak {peak:.0f}/s; tables and plots in {args.output}")


if __name__ == "__main__":
    main()
