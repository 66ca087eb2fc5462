"""Reading crontabs as cron does: the reader is compared with cron's own way, letter by letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_app import crontab
from daemon_app.crontab import Fault, read

# What crontab(5) of Debian shows, abridged, with the oddities of its example.
DEBIAN = """\
# use /bin/bash to run commands, instead of the default /bin/sh
SHELL=/bin/bash
# mail any output to `paul', no matter whose crontab this is
MAILTO=paul
#
# run five minutes after midnight, every day
5 0 * * *       $HOME/bin/daily.job >> $HOME/tmp/out 2>&1
# run at 2:15pm on the first of every month -- output mailed to paul
15 14 1 * *     $HOME/bin/monthly
# run at 10 pm on weekdays, annoy Joe
0 22 * * 1-5    mail -s "It's 10pm" joe%Joe,%%Where are your kids?%
23 0-23/2 * * * echo "run 23 minutes after midn, 2am, 4am ..., everyday"
5 4 * * sun     echo "run at 5 after 4 every Sunday"
0 */4 1 * mon   echo "run every 4th hour on the 1st and on every Monday"
0 0 */2 * sun   echo "run at midn on every Sunday that's an uneven date"
# Run on every second Saturday of the month
0 4 8-14 * *    test $(date +\\%u) -eq 6 && echo "2nd Saturday"
"""
# /etc/crontab as Debian installs it.
SYSTEM = """\
SHELL=/bin/sh
# PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

# m h dom mon dow user\tcommand
17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
"""


def test_the_example_of_the_manual_is_read_as_the_manual_says() -> None:
    found = read(DEBIAN)

    assert not found.faults
    assert [entry.schedule for entry in found.entries] == [
        "5 0 * * *",
        "15 14 1 * *",
        "0 22 * * 1-5",
        "23 0-23/2 * * *",
        "5 4 * * sun",
        "0 */4 1 * mon",
        "0 0 */2 * sun",
        "0 4 8-14 * *",
    ]
    joe = found.entries[2]
    assert joe.command == 'mail -s "It\'s 10pm" joe'
    assert joe.stdin == "Joe,\n\nWhere are your kids?\n"
    assert found.entries[7].command == 'test $(date +%u) -eq 6 && echo "2nd Saturday"'
    assert found.entries[1].comment == (
        "run at 2:15pm on the first of every month -- output mailed to paul"
    )
    assert all(e.environment == {"SHELL": "/bin/bash", "MAILTO": "paul"} for e in found.entries)


def test_a_crontab_of_the_system_names_a_user() -> None:
    found = read(SYSTEM, system=True)

    assert [(entry.schedule, entry.user) for entry in found.entries] == [
        ("17 * * * *", "root"),
        ("25 6 * * *", "root"),
    ]
    assert found.entries[0].command == "cd / && run-parts --report /etc/cron.hourly"
    assert crontab.looks_like_system(SYSTEM)
    assert not crontab.looks_like_system(DEBIAN)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("A=b", "A", "b"),
        ("  A = b c  ", "A", "b c"),
        ("A='  b  '", "A", "  b  "),
        ('"A" = "b=c"', "A", "b=c"),
        ("A=", "A", ""),
        ("A-B=c", "A-B", "c"),
        ("A=$HOME/bin", "A", "$HOME/bin"),
        ("A=b # no comment", "A", "b # no comment"),
    ],
)
def test_a_variable_holds_from_its_line_on(line: str, name: str, value: str) -> None:
    found = read(f"0 1 * * * before\n{line}\n0 2 * * * after\n")

    assert [entry.environment for entry in found.entries] == [{}, {name: value}]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("foo", "no_entry"),
        ("* * * *", "no_entry"),
        ("* * * * *", "no_command"),
        ("* * * * * %input", "no_command"),
        ("@fortnightly x", "nickname"),
        ("@daily", "no_command"),
        ("* * * * * a\0b", "nul"),
        ("* * * * * " + "x" * 20_000, "too_long"),
        ("A='b' c", "no_entry"),
        ("60 x y z w command", "no_entry"),
    ],
)
def test_what_cron_refuses_is_named_with_its_line(line: str, code: str) -> None:
    found = read(f"# one\n{line}\n@hourly fine\n")

    assert [(fault.line, fault.code) for fault in found.faults] == [(2, code)]
    assert [entry.line for entry in found.entries] == [3]


def test_an_entry_that_is_switched_off_describes_nothing() -> None:
    found = read("# nightly things\n#0 3 * * * old\n0 4 * * * new\n\n# far away\n\n@daily x\n")

    assert [entry.comment for entry in found.entries] == ["", ""]


def test_ends_of_lines_marks_and_signs_of_other_systems_do_no_harm() -> None:
    found = read("\ufeff-0 3 * * *  quiet\r\n0 4 * * *\tlast")

    assert [(e.command, e.is_quiet) for e in found.entries] == [("quiet", True), ("last", False)]


def test_a_crontab_without_end_is_given_up() -> None:
    assert read("x" * (crontab.LONGEST + 1)).faults == (Fault(1, "", "file_long"),)
    assert read("\n" * 20_000).faults[-1].code == "too_many"
    assert read("".join(f"V{n}=1\n" for n in range(300))).faults[-1].code == "variables"


# ── The same by cron's own steps (do_command.c, env.c), a letter at a time ───────────────────────
def by_steps(text: str) -> tuple[str, str]:
    command, is_escaped, rest = "", False, ""
    for place, letter in enumerate(text):
        if is_escaped:
            command = command[:-1] + "%" if letter == "%" else command + letter
            is_escaped = False
        elif letter == "%":
            rest = text[place + 1 :]
            break
        else:
            command += letter
            is_escaped = letter == "\\"
    said, is_escaped = "", False
    for letter in rest:
        shown = letter
        if is_escaped:
            said += "" if letter == "%" else "\\"
        elif letter == "%":
            shown = "\n"
        is_escaped = shown == "\\"
        said += "" if is_escaped else shown
    said += "\\" if is_escaped else ""
    return command, said if not said or said.endswith("\n") else said + "\n"


@given(st.text(alphabet="ab %\\'\"$", max_size=40))
def test_percent_signs_are_what_they_are_to_cron(text: str) -> None:
    line = f"0 3 * * * x{text}"

    command, stdin = by_steps(f"x{text}")

    (entry,) = read(line).entries
    assert (entry.command, entry.stdin) == (command.strip(), stdin)


def variable_by_steps(line: str) -> tuple[str, str] | None:  # noqa: C901 - as it is in cron
    parts, state, quote, at = ["", ""], 0, "", 0
    # States: 0 name begins, 1 name, 2 "=" is wanted, 3 blanks, 4 value begins, 5 value, 6 done.
    while at < len(line):
        letter = line[at]
        if state in {0, 4}:
            quote = letter if letter in "'\"" else ""
            at += bool(quote)
            state += 1
            continue
        if state in {1, 5}:
            if quote and letter == quote:
                state, at = state + 1, at + 1
                continue
            if quote and state == 1 and letter == "=":
                return None
            if not quote and state == 1 and letter in " \t":
                state, at = 2, at + 1
                continue
            if not quote and state == 1 and letter == "=":
                state = 2
                continue
            parts[state == 5] += letter
        elif state == 2:
            if letter == "=":
                state = 3
            elif letter not in " \t":
                return None
        elif letter not in " \t":
            if state == 6:
                return None
            state = 4
            continue
        at += 1
    if state in {3, 4, 6} or (state == 5 and not quote):
        return parts[0], parts[1] if state == 6 else parts[1].rstrip(" \t")
    return None


@given(st.text(alphabet="AB1 =\t'\"-", min_size=1, max_size=12).filter(lambda t: t.strip(" \t")))
def test_variables_are_what_they_are_to_cron(line: str) -> None:
    wanted = variable_by_steps(line.lstrip(" \t"))

    (entry, *_more) = reversed(read(f"{line}\n@daily x").entries)

    # A name that is empty is nobody's.
    if wanted is None or wanted[0]:
        assert entry.environment == dict([wanted] if wanted else [])


@given(st.text(max_size=300), st.booleans())
def test_nothing_makes_the_reader_fail(text: str, system: bool) -> None:
    found = read(text, system=system)

    lines = text.count("\n") + 1
    told = [entry.line for entry in found.entries] + [fault.line for fault in found.faults]
    assert all(1 <= line <= lines for line in told)
    assert len(set(told)) == len(told)
