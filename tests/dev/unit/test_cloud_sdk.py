"""Finding the Cloud SDK and Java."""

from __future__ import annotations

from pathlib import Path

import pytest

from gaetk_longtask.dev.cloud_sdk import find_emulator, find_java

JAR = "some-emulator/some.jar"


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CLOUDSDK_ROOT_DIR", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root = tmp_path / "sdk"
    make(root / "platform" / JAR)
    make(root / "bin" / "gcloud")
    return root


def make(path: Path, text: str = "", *, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_it_may_be_nowhere(sdk: Path) -> None:
    assert find_emulator(JAR) is None


def test_cloudsdk_root_dir_names_it(sdk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(sdk))
    assert find_emulator(JAR) == sdk / "platform" / JAR


def test_it_is_beside_a_gcloud_that_is_a_link(sdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    (bin_directory / "gcloud").symlink_to(sdk / "bin" / "gcloud")
    monkeypatch.setenv("PATH", str(bin_directory))
    assert find_emulator(JAR) == sdk.resolve() / "platform" / JAR


def test_it_may_be_in_the_home_directory(sdk: Path, tmp_path: Path) -> None:
    jar = make(tmp_path / "home" / "google-cloud-sdk" / "platform" / JAR)
    assert find_emulator(JAR) == jar


def test_an_sdk_without_the_emulator_is_passed_over(sdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(sdk))
    jar = make(tmp_path / "home" / "google-cloud-sdk" / "platform" / "other.jar")
    assert find_emulator("other.jar") == jar


def test_java_home_comes_first(sdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = make(tmp_path / "jdk" / "bin" / "java", "#!/bin/sh\nexit 0\n")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert find_java() == str(java)


def test_a_java_that_does_not_run_is_none(sdk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "bin" / "java", "#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_java() is None


def test_without_java_there_is_none(sdk: Path) -> None:
    assert find_java() is None
