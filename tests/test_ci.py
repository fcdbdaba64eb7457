"""The workflows of CI: they run the scripts of .ci, which run what a reader runs."""

import os
import subprocess

import pytest
import yaml

from tools.notebooks import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"


def workflow(name):
    """The workflow as nested dicts; YAML reads the key `on` as True."""
    read = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text(encoding="utf-8"))
    return read | {"on": read[True]}


def step(job, said):
    """The one step of a job whose command or action contains the words."""
    (found,) = (step for step in job["steps"] if said in step.get("run", step.get("uses", "")))
    return found


def test_ci_tests_with_cpu_wheels_on_linux():
    job = workflow("ci")["jobs"]["test"]
    run = step(job, ".ci/run")
    assert run["run"] == "bash .ci/run"
    assert run["env"]["TORCH"] == "${{ runner.os == 'Linux' && 'cpu' || 'default' }}"


@pytest.mark.parametrize(("name", "job"), [("ci", "test"), ("editions", "build")])
def test_pip_is_cached_until_a_requirement_changes(name, job):
    python = step(workflow(name)["jobs"][job], "setup-python")["with"]
    assert python["cache"] == "pip"
    files = python["cache-dependency-path"].split()
    assert files == ["requirements.txt", "constraints.txt"]
    assert all((ROOT / file).is_file() for file in files)


def test_editions_are_built_and_kept_by_ci_and_attached_to_a_release():
    build = workflow("editions")["jobs"]["build"]
    assert step(build, ".ci/editions")["run"] == "bash .ci/editions"
    kept = step(build, "upload-artifact")["with"]
    assert kept["path"] == "build/dist"
    assert kept["if-no-files-found"] == "error"
    ci, release = workflow("ci"), workflow("release")
    for jobs in (ci["jobs"], release["jobs"]):
        assert jobs["editions"]["uses"] == "./.github/workflows/editions.yml"
    assert release["on"] == {"push": {"tags": ["v*"]}}
    job = release["jobs"]["release"]
    assert job["needs"] == "editions"
    assert job["permissions"] == {"contents": "write"}
    assert step(job, "download-artifact")["with"]["name"] == kept["name"]
    assert "gh release create" in step(job, "gh release")["run"]


def test_every_step_of_a_workflow_does_something():
    for path in WORKFLOWS.glob("*.yml"):
        for job in workflow(path.stem)["jobs"].values():
            assert ("uses" in job) != ("steps" in job)
            assert all(("run" in step) != ("uses" in step) for step in job.get("steps", []))


@pytest.mark.parametrize("script", ["run", "editions"])
def test_scripts_are_bash_that_stops_at_the_first_error(script):
    path = ROOT / ".ci" / script
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")


def test_the_kind_of_torch_reaches_the_installation_through_the_environment(tmp_path):
    """CI sets TORCH; make hands it to tools/install.py."""
    for file in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml", "setup.py"):
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    for torch in ("cpu", "default"):
        said = subprocess.run(
            ["make", "--dry-run", "test"], cwd=tmp_path, env=clean | {"TORCH": torch}, capture_output=True, text=True
        ).stdout
        assert f"tools/install.py {torch}\n" in said
