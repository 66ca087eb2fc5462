"""Other distributions bring skills by an entry point; a file in the data folder brings nothing."""

import sys
import tomllib
from pathlib import Path

import pytest
from django.conf import settings

from daemon_app import skills
from daemon_app.models import Incident, Job, Run
from daemon_app.skills import SKILLS, plugins
from tests.jobs import NOON
from tests.service import Service, ended, started, text
from tests.skills.doing import done, process

SHRINK = """
from daemon_app.skills import Due, Result, Skill

class ShrinkLogs(Skill):
    name = "shrink_logs"
    title = "Shrink logs"

    def is_due(self, situation):
        return Due("due_daily") if situation.idle else None

    def run(self, context):
        for number in range(3):
            context.make_way()
            context.say(f"log {number}")
        return Result("3 logs shrunk.", data={"n": 3})
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed distributions."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield folder
    plugins.unload()
    for name in [name for name in sys.modules if name.startswith("bach_")]:
        del sys.modules[name]


def install(site: Path, code: str, **points: str) -> None:
    """Install a distribution: its module, and what it says of itself."""
    name = f"bach_{'_'.join(points)}"
    (site / f"{name}.py").write_text(code)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {name}:{thing}" for point, thing in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[bach.skills]", *lines]) + "\n")


@pytest.mark.django_db
def test_an_installed_skill_gets_a_job_and_is_due_by_its_own_rule(site):
    install(site, SHRINK, shrink_logs="ShrinkLogs")

    assert skills.load() == []
    skills.install(NOON)

    job = Job.objects.get(skill="shrink_logs")
    assert (job.name, job.description) == ("shrink_logs", "Shrink logs")
    assert job in [found for found, _why in skills.due({}, True, NOON)]


@pytest.mark.django_db(transaction=True)
def test_an_installed_skill_runs_as_a_process(site):
    install(site, SHRINK, shrink_logs="ShrinkLogs")

    with process("shrink_logs") as running:
        said, _ = running.communicate(timeout=60)

    assert running.returncode == 0
    assert said.splitlines() == ["log 0", "log 1", "log 2", "3 logs shrunk."]


@pytest.mark.django_db(transaction=True)
def test_the_example_in_the_documentation_runs(site, tmp_path):
    page = (Path(settings.BASE_DIR) / "docs" / "skills.md").read_text()
    project = tomllib.loads(fenced(page, "toml"))
    [(name, thing)] = project["project"]["entry-points"]["bach.skills"].items()
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.log").write_text("a" * 3_000_000)
    install(
        site,
        fenced(page, "python").replace("/var/log/bach", str(logs)),
        **{name: thing.partition(":")[2]},
    )

    assert skills.load() == []
    skills.install(NOON)
    with process(name) as running:
        said, _ = running.communicate(timeout=60)

    assert running.returncode == 0, said
    assert said.splitlines()[-1] == "2 MB saved."
    assert [file.name for file in logs.iterdir()] == ["a.log.gz"]
    assert name in {job.skill for job, _why in skills.due({}, True, NOON)}


def fenced(page: str, language: str) -> str:
    """Return the last block of code in a language."""
    return page.rpartition(f"```{language}\n")[2].partition("```")[0]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("Odd = 3", "TypeError: bach_odd:Odd is no subclass of daemon_app.skills.Skill"),
        (SHRINK.replace("ShrinkLogs", "Odd"), "ValueError: its name 'shrink_logs' is not the"),
        ("", "AttributeError: module 'bach_odd' has no attribute 'Odd'"),
    ],
)
@pytest.mark.django_db
def test_a_broken_plug_in_is_reported_and_spoils_nothing(site, code, why):
    install(site, code, odd="Odd")
    install(site, SHRINK, shrink_logs="ShrinkLogs")

    [broken] = skills.load()

    assert (broken.name, broken.source) == ("odd", "bach_odd:Odd")
    assert broken.error.startswith(why)
    assert "shrink_logs" in SKILLS
    skills.install(NOON)
    skills.install(NOON)
    told = str(Incident.objects.get())
    assert told.startswith(f"The skill “odd” (bach_odd:Odd) can't be loaded: {why}")
    found = done("validate_configs").data["problems"]
    assert [each["path"] for each in found] == ["Skill “odd”"]


@pytest.mark.django_db
def test_a_plug_in_can_not_take_the_name_of_another_skill(site):
    code = SHRINK.replace("shrink_logs", "cleanup_vram")
    install(site, code, cleanup_vram="ShrinkLogs")
    before = SKILLS["cleanup_vram"]

    [broken] = skills.load()

    assert "registered twice" in broken.error
    assert SKILLS["cleanup_vram"] is before


@pytest.mark.django_db
def test_a_plug_in_that_can_not_decide_hinders_no_other(site):
    install(site, SHRINK.replace("Due(", "1 / 0 or Due("), shrink_logs="ShrinkLogs")
    skills.install(NOON)

    assert [job.skill for job, _why in skills.due({}, True, NOON)] == ["validate_configs"]


@pytest.mark.django_db
def test_a_skill_that_is_gone_is_marked_and_comes_back(site):
    install(site, SHRINK, shrink_logs="ShrinkLogs")
    skills.install(NOON)
    point = next(site.glob("*.dist-info")) / "entry_points.txt"
    named = point.read_text()
    point.write_text("")
    plugins.unload()

    skills.install(NOON)

    job = Job.objects.get(skill="shrink_logs")
    assert "is not installed any more" in job.schedule_error
    assert "shrink_logs" not in {found.skill for found, _why in skills.due({}, True, NOON)}

    point.write_text(named)
    skills.install(NOON)

    job.refresh_from_db()
    assert job.schedule_error == ""
    point.write_text("")
    plugins.unload()
    skills.install(NOON)
    job.refresh_from_db()
    job.remove(now=NOON, by="anna")  # for who does not want it back


@pytest.mark.django_db(transaction=True)
def test_a_file_in_the_data_folder_is_never_loaded(tmp_path):
    sign = tmp_path / "loaded"
    code = f"open({str(sign)!r}, 'w').close()\n{SHRINK}"
    data = Path(settings.DATA_DIR)
    places = [data, data / "skills", data / "plugins", data / "daemon_app" / "skills"]
    written = []
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        for name in ("shrink_logs.py", "json.py", "sitecustomize.py", "__init__.py"):
            (place / name).write_text(code)
            written.append(place / name)
        info = place / "shrink-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shrink\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[bach.skills]\nshrink_logs = shrink_logs:ShrinkLogs"
        )
        written += [info / "METADATA", info / "entry_points.txt"]
    service = Service()
    try:
        skills.load()
        with process("shrink_logs") as refused:
            refused.communicate(timeout=60)
        skills.install(NOON)
        service.start()
        run = ended(started(Job.objects.get(skill="validate_configs"), forced=True))
    finally:
        service.close()
        for file in written:
            file.unlink()

    assert refused.returncode == 64
    assert run.state == Run.State.SUCCEEDED, text(run)
    assert not sign.exists()
    assert "shrink_logs" not in SKILLS
