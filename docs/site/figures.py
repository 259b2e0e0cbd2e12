"""Makes docs/figures.md from a run of the suite: python docs/site/figures.py RUN.json

What the page shows of the run is kept in docs/figures.json, from which a test makes it again.
"""

import json
import sys
import textwrap
from pathlib import Path

DOCS = Path(__file__).parents[1]
KEPT = DOCS / "figures.json"
PAGE = DOCS / "figures.md"
COPY = "copy"  # not a peer, as in the suite


def reduced(run):
    """A run without the single times, and without contenders that have none."""
    workloads = []
    for workload in run["workloads"]:
        cases = []
        for case in workload["cases"]:
            timed = [one for one in case["contenders"] if one["peer"] != COPY and "median" in one]
            kept = [{"peer": one["peer"], "way": one["way"], "median": float(f"{one['median']:.4g}")} for one in timed]
            cases.append({"case": case["case"], "contenders": kept})
        workloads.append({**workload, "cases": cases})
    names = ("machine", "peers", "runs", "verdict")
    return {**{name: run[name] for name in names}, "workloads": workloads}


def page(run):
    """The page of a reduced run, as Markdown."""
    machine, config = run["machine"], run["machine"]["fastembed"]
    versions = [f"{peer} {version}" for peer, version in run["peers"].items() if version and peer != "itself"]
    losses = [sentence.removeprefix("fastembed LOSES ") for sentence in run["verdict"] if "LOSES" in sentence]
    faults = [
        text for result in run["workloads"] for text in result["summary"] if " is WRONG in " in text or " is failed in " in text
    ]
    parts = [
        "# Figures of the suite",
        f"All of one run, made into this page by `docs/site/figures.py`: medians of {run['runs']} runs. For each peer\n"
        "its best way, and its time over fastembed's: above 1 fastembed is faster, and below it **loses**.\n"
        "[Measurements](performance.md) says what limits the kernels, and what was tried.",
        "    make figures",
        f"{machine['processor']}, {machine['processors']} processors, {config['isa']}; fastembed {config['version']};\n"
        + textwrap.fill(f"{', '.join(versions)}.", 100),
        "## Losses in this run",
        _listed(losses),
        "## Answers that were not right",
        "Of peers; they are not timed.",
        _listed(faults),
    ]
    for id in dict.fromkeys(workload["id"] for workload in run["workloads"]):
        parts += _section([workload for workload in run["workloads"] if workload["id"] == id])
    return "\n\n".join(parts) + "\n"


def _listed(texts):
    items = (
        textwrap.fill(f"- {text}", 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for text in dict.fromkeys(texts)
    )
    return "\n".join(items) or "None."


def _section(results):
    """The heading and the table of one workload, with any number of threads."""
    first = results[0]
    parts = [f"## {first['id']}: {first['what']}"]
    if first["shows"] != "speed":
        return [*parts, _listed(f"{_threads(result)}: {text}" for result in results for text in result["summary"])]
    rows = ["| case | threads | fastembed | peers |", "|---|---|---|---|"]
    for case in range(len(first["cases"])):
        rows += [_row(result["cases"][case], result["threads"]) for result in results]
    return [*parts, "\n".join(rows)]


def _threads(result):
    return "1 thread" if result["threads"] == 1 else f"{result['threads']} threads"


def _row(case, threads):
    best = {}
    for one in case["contenders"]:
        best[one["peer"]] = min(one["median"], best.get(one["peer"], one["median"]))
    ours = best.pop("fastembed")
    ratios = sorted((median / ours, peer) for peer, median in best.items())
    peers = [f"{peer} {ratio:.3g}" if ratio >= 1 else f"**{peer} {ratio:.2f}**" for ratio, peer in ratios]
    return f"| {case['case']} | {threads} | {_time(ours)} | {', '.join(peers) or '-'} |"


def _time(seconds):
    unit, factor = next((pair for pair in (("s", 1.0), ("ms", 1e3), ("us", 1e6)) if seconds * pair[1] >= 1), ("ns", 1e9))
    return f"{seconds * factor:.3g} {unit}"


if __name__ == "__main__":
    run = reduced(json.loads(Path(sys.argv[1]).read_text()))
    KEPT.write_text(json.dumps(run, indent=0) + "\n")
    PAGE.write_text(page(run))
