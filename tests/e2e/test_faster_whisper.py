"""faster-whisper's example, with a model that the loader fetches: the gateway gives out its words."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from openai import OpenAI

from tests.cluster.local import Cluster
from tests.e2e.release import Release
from tests.support.origin import Origin
from tests.support.recordings import go_forward
from tests.support.whisper import make_whisper

ROOT = Path(__file__).resolve().parents[2]
MODEL = "deaf-whisper"


@pytest.fixture
def model(release: Release, cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """A variant on the example's engine, its weights at an address on this machine."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in sorted(make_whisper(tmp_path / "model").iterdir()):
            tar.add(file, arcname=file.name)
    host = str(cluster.layout.addresses.host_address)
    with Origin({"whisper.tar": archive.getvalue()}, host=host) as origin:
        digest = hashlib.sha256(archive.getvalue()).hexdigest()
        engine, variant, *_ = yaml.safe_load_all((ROOT / "examples/faster-whisper.yaml").read_text())
        engine["spec"]["hardware"]["resources"]["requests"] = {"cpu": "50m", "memory": "256Mi"}
        variant["metadata"]["name"] = MODEL
        variant["spec"]["source"] = {
            "type": "HTTP",
            "format": "CTranslate2",
            "http": {"url": f"{origin.url}/whisper.tar", "sha256": digest},
        }
        release.apply(yaml.safe_dump_all([engine, variant]))
        yield MODEL
        release.delete(f"modelvariant/{MODEL}", "engine/faster-whisper")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_fetched_whisper_is_heard_through_the_gateway(release: Release, model: str) -> None:
    release.wait_for_condition(f"modelvariant/{model}", "Ready", "True", "Serving", seconds=300)
    with OpenAI(base_url=f"{release.url}/v1", api_key="none needed", max_retries=2) as client:
        found = client.audio.transcriptions.create(
            model=model,
            file=("a.wav", go_forward()),
            response_format="verbose_json",
            timestamp_granularities=["word"],
        )
        translation = client.audio.translations.create(model=model, file=("a.wav", go_forward()))
    assert (found.text, found.language, translation.text) == ("hello world", "english", "good day")
    assert found.words is not None
    first, second = found.words
    assert (first.word, second.word) == ("hello", "world")
    assert second.start - first.start == pytest.approx(0.5, abs=0.01)
