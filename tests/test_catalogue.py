"""The German catalogue: complete, and found wherever a text may stand."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "locale/messages.py"
spec = importlib.util.spec_from_file_location("bach_messages", SCRIPT)
assert spec
assert spec.loader
messages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(messages)
Text = messages.Text


def test_no_text_is_untranslated() -> None:
    answer = subprocess.run(
        [sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('{% translate "Start" %}', Text("Start")),
        ("{% translate 'Say \"go\"' as label %}", Text('Say "go"')),
        ('{% translate "May" context "month" %}', Text("May", context="month")),
        ('<a title="{{ _("Skip (it)") }}">', Text("Skip (it)")),
        ('{% include "x.html" with label=_("Close") %}', Text("Close")),
        (
            "{% blocktranslate trimmed with n=run.pk %}\n  Run\n  {{ n }}\n{% endblocktranslate %}",
            Text("Run %(n)s"),
        ),
        (
            "{% blocktranslate count n=n %}1 run{% plural %}{{ n }} runs{% endblocktranslate %}",
            Text("1 run", "%(n)s runs"),
        ),
        ('<p>\n     {% if a %}\n  {% translate "Deep" %}\n{% endif %}', Text("Deep")),
    ],
)
def test_a_text_is_found_in_every_form_a_template_has(template: str, text: tuple[str]) -> None:
    assert list(messages.texts_in_template(template)) == [text]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("gettext('A')", Text("A")),
        ("_('A ' 'long one')", Text("A long one")),
        ("say('A')", Text("A")),
        ("ngettext('%(n)s run', '%(n)s runs', n)", Text("%(n)s run", "%(n)s runs")),
        ("pgettext_lazy('month', 'May')", Text("May", context="month")),
        ("translation.gettext('A')", Text("A")),
    ],
)
def test_a_text_is_found_in_python_whatever_the_function_is_called(
    call: str, text: tuple[str]
) -> None:
    source = (
        "from django.utils import translation\n"
        "from django.utils.translation import gettext, gettext_lazy as _, gettext as say\n"
        f"from django.utils.translation import ngettext, pgettext_lazy\nx = {call}\n"
    )

    assert list(messages.texts_in_python(source, "x.py")) == [text]


def test_a_text_that_no_catalogue_can_hold_is_refused() -> None:
    source = "from django.utils.translation import gettext as _\nx = _(f'{n} runs')\n"

    with pytest.raises(SystemExit, match=r"x\.py:2"):
        list(messages.texts_in_python(source, "x.py"))


@pytest.mark.parametrize(
    ("german", "fits"),
    [("Lauf %(n)s", True), ("Lauf", False), ("Lauf %(m)s", False), ("Lauf %(n)s %(n)s", True)],
)
def test_a_translation_keeps_the_placeholders(german: str, fits: bool) -> None:
    message = messages.Message("Run %(n)s", german)

    assert (messages.differing_placeholders(message) is None) is fits
