"""`make demo`: the main jobs from nothing, on the embedded default, with the commands that a user types.

Everything lands in one folder that stays, so that every figure can be asked for again afterwards.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path

from tollkeeper.app.cli import cli
from tollkeeper.app.cli.exit_codes import DONE, REFUSED
from tollkeeper.app.cli.output import out, progress
from tollkeeper.app.demo_gate import show_the_gate
from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import now_micros
from tollkeeper.gate.embedded import stop_embedded_gate
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.usage import Usage
from tollkeeper.money.instants import MICROS_PER_DAY
from tollkeeper.money.periods import period_at
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

HOME = Path(".tollkeeper") / "demo"
MARK = "made-by-make-demo"
EVENTS = 120_000
REPEATED = 5_000
UNPRICED = 200
GROUP = 1_000
DAYS = 6
FLUSH_TIMEOUT_S = 120.0
NEW_MODEL = "claude-next"
NEW_PRICES = f"""\
publication_id = "{NEW_MODEL}-first"
source = "the demo"
source_date = "2026-11-01"
effective_from = "2026-01-01T00:00:00Z"

[[prices]]
models = ["{NEW_MODEL}"]
input = "6"
output = "30"
"""


def main() -> None:
    """Set up, open, stream, fold, show, prove."""
    began = time.monotonic()
    home = fresh_home(HOME)
    os.environ["TOLLKEEPER_HOME"] = str(home)
    now = now_micros()
    load = SyntheticLoad(seed=2026, events=EVENTS, organizations=3, days=DAYS, ending_at=now)
    period = period_at(now - DAYS * MICROS_PER_DAY // 2).label

    say("Three organizations: two buy credits ahead, one is billed in arrears")
    run("setup")
    open_organizations(load)

    say(f"{EVENTS:,} usage events, {REPEATED:,} of them reported twice, {UNPRICED} without a price")
    stream(load)
    fold()

    say("What is left, and what was spent")
    for organization in load.population.organizations:
        run("balance", organization)
    run("spend", "org-001", "--period", period, "--by", "member")
    run("spend", "org-001", "--period", period, "--by", "model")

    say("One event, from the figure to its place on the log")
    run("event", "show", "org-001", first_event_of("org-001", load))

    say("Usage without a price waits, visible; a price releases it")
    run("dead-letters", "list", "--group-by", "cause,model")
    (home / "next.toml").write_text(NEW_PRICES, encoding="utf-8")
    run("prices", "publish", str(home / "next.toml"))
    run("dead-letters", "release", "--cause", "unpriced")
    run("consume", "--until-caught-up")

    show_the_gate(run, say)

    say("Proof: fold the whole history again and compare every row")
    run("replay", "verify")
    stop_embedded_gate(home)  # the next hold starts it again

    out().print(
        f"\nDone in {time.monotonic() - began:.0f} s. Ask on:\n"
        f"  export TOLLKEEPER_HOME={home} PATH=$PWD/.venv/bin:$PATH\n"
        f"  tollkeeper invoice draft org-002 --period {period}",
        style="bold",
    )


def fresh_home(home: Path) -> Path:
    """An empty home. A folder that the demo didn't make is never emptied."""
    if home.exists():
        if not (home / MARK).exists():
            raise InvalidInput(
                str(home), "exists and isn't a former demo's: move it away, then run it again"
            )
        stop_embedded_gate(home.absolute())
        shutil.rmtree(home)
    home.mkdir(parents=True)
    (home / MARK).touch()
    return home.absolute()


def say(text: str) -> None:
    """A heading."""
    out().print(f"\n{text}", style="bold cyan")


def run(*arguments: str, refused: bool = False, stdin: str = "") -> None:
    """Show a command as a user would type it, and carry it out; the demo ends if it fails.

    With `refused` it has to be refused: then its exit code is 1.
    """
    given = f"echo '{stdin.strip()}' | " if stdin else ""
    out().print(f"$ {given}tollkeeper {' '.join(arguments)}", style="dim")
    code: object = 0
    standard_input = sys.stdin
    sys.stdin = TextIOWrapper(BytesIO(stdin.encode()))
    try:
        cli.main(list(arguments), standalone_mode=False)
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.stdin = standard_input
    if code != (REFUSED if refused else DONE):
        raise SystemExit(f"this ended with {code}, and wasn't expected to")


def open_organizations(load: SyntheticLoad) -> None:
    """Both channels, with their members."""
    first, second, third = load.population.organizations
    run("org", "open", first, "--plan", "enterprise_self_serve", "--owner", "olivia")
    run("credits", "buy", first, "25000", "--as", "olivia", "--idempotency-key", "order-1")
    run("credits", "buy", first, "25000", "--as", "olivia", "--idempotency-key", "order-1")
    run("org", "open", second, "--plan", "enterprise_sales_assisted", "--owner", "oscar")
    run("org", "open", third, "--plan", "enterprise_self_serve", "--owner", "omar")
    run("credits", "buy", third, "500", "--as", "omar")
    run("cap", "set", third, "1000", "--as", "omar")
    add_members(load)


def add_members(load: SyntheticLoad) -> None:
    """Every member of the load, through the same commands as `tollkeeper org add-member`."""
    from tollkeeper.organizations.commands import AddMember, CommandContext

    app = App(load_settings(os.environ))
    try:
        for organization in load.population.organizations:
            for member in load.population.members:
                app.organizations.handle(
                    AddMember(organization=organization, member=member, role="member"),
                    CommandContext(actor="operator", command_id=f"demo-{member}"),
                )
    finally:
        app.close()
    count = len(load.population.members)
    out().print(f"... and {count} members added to each", style="dim")


def stream(load: SyntheticLoad) -> None:
    """Report the usage as product services do: accepted is durable, then it goes to the log."""
    app = App(load_settings(os.environ))
    began = time.monotonic()
    total = EVENTS + REPEATED + UNPRICED
    try:
        with app.emitter() as emitter, progress("emitting", total) as bar:
            for group in grouped(usages(load)):
                emitter.emit_many(group)
                bar.update(bar.task_ids[0], advance=len(group))
            flush(emitter)
    finally:
        app.close()
    took = time.monotonic() - began
    out().print(
        f"{total:,} events made up, accepted and on the log in {took:.1f} s: "
        f"{total / took:,.0f} a second"
    )


def fold() -> None:
    """Charge it, exactly once."""
    began = time.monotonic()
    run("consume", "--until-caught-up")
    took = time.monotonic() - began
    out().print(f"folded in {took:.1f} s: {(EVENTS + REPEATED + UNPRICED) / took:,.0f} a second")


def usages(load: SyntheticLoad) -> Iterator[Usage]:
    """The load, its first events once more, and some of a model that nobody priced."""
    yield from synthetic(load)
    yield from islice(synthetic(load), REPEATED)
    for number in range(UNPRICED):
        yield Usage(
            organization="org-001",
            member=load.population.members[0],
            surface="web",
            model=NEW_MODEL,
            input_tokens=1_000 + number,
            output_tokens=200,
        )


def grouped(source: Iterator[Usage]) -> Iterator[Sequence[Usage]]:
    """Groups of at most GROUP."""
    while group := list(islice(source, GROUP)):
        yield group


def flush(emitter: Emitter) -> None:
    """Wait until the log has everything."""
    if not emitter.flush(FLUSH_TIMEOUT_S):
        sys.exit(f"the log didn't take everything within {FLUSH_TIMEOUT_S:.0f} s")


def first_event_of(organization: str, load: SyntheticLoad) -> str:
    """The id of the organization's first event."""
    return next(
        str(usage.event_id) for usage in synthetic(load) if usage.organization == organization
    )


if __name__ == "__main__":
    main()
