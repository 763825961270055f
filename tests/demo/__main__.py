"""`make demo`: from a bare machine to the words of a recording, on a real Kubernetes.

Says what it will install and where before it does so, then brings up the cluster, builds and loads the
images, installs the chart, applies examples/pocketsphinx.yaml and asks the gateway for two transcripts.
Each step can be repeated; a second run starts nothing twice.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tests.support.install import InstallError, install_chart
from tests.support.packages import PackagesError, install, missing
from tests.support.recordings import GO_FORWARD_WORDS, WEATHER_WORDS, go_forward, spoken
from tests.support.waiting import wait_until

from .steps import ROOT, DemoError, project, run, step
from .target import LOCAL_REGISTRY, Target, find_target

NAMESPACE = "roundhouse"
WHICH = ("ROUNDHOUSE_CLUSTER", "ROUNDHOUSE_CONTEXT")
MODEL = "pocketsphinx-en-us"
PACKAGES = ("curl", "flite", "pocketsphinx-testdata")
IMAGES = ("operator", "gateway", "loader", "pocketsphinx")
"""Those that the demo runs, and the loader for what is tried next. `make images` makes all."""

PLAN = """\
This will, on this machine:
  install  Debian packages that are missing, by apt-get: {packages}
           and those that the local cluster and the image builder name below
  keep     Python packages in .venv (3 GB)
           binaries and images in {cache} (about 2.5 GB, shared by all checkouts)
  start    {cluster}
  listen   on 127.0.0.1 and on addresses of the cluster's own network only
`make down` ends what was started and leaves packages, .venv and that cache.
"""

CLOSING = """
\033[1mRoundhouse is running.\033[0m
  gateway      {url}        {url}/v1/models   {url}/v1/engines
  kubectl      eval "$({make} env)"; kubectl get roundhouse --all-namespaces

Three things to try next:
  1. Ask with a recording of your own:
       curl {url}/v1/audio/transcriptions -F model=auto -F response_format=verbose_json -F file=@speech.wav
  2. See why something is not ready. Name an image that does not exist, look, and name the right one:
       eval "$({make} env)"
       image() {{
         kubectl -n {namespace} patch eng pocketsphinx --type merge \\
           -p '{{"spec":{{"workload":{{"image":"'"$1"'"}}}}}}'
       }}
       image localhost/nobody/built-this:1; sleep 5
       kubectl -n {namespace} get mv; kubectl -n {namespace} describe mv
       image {registry}/pocketsphinx:{version}
  3. Learn what a model can say of itself:
       kubectl explain modelvariant.spec.capabilities
{away} It took {seconds:.0f} s to get here.
"""


def main() -> None:
    started = time.monotonic()
    try:
        target, folders = prepare()
        deploy(target, folders)
        ask(target)
    except (DemoError, PackagesError, InstallError) as error:
        sys.exit(f"\nerror: {error}\nMend that and run `make demo` again: it goes on where it stopped.")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; `make demo` goes on where it stopped, `make down` takes away what is there")
    say_what_next(target, time.monotonic() - started)


def say_what_next(target: Target, seconds: float) -> None:
    away = f"`helm uninstall roundhouse --namespace {NAMESPACE}` takes it away again."
    if not target.context:
        away = f"`{make()} down` takes everything away again."
    print(
        CLOSING.format(
            make=make(),
            url=target.url,
            namespace=NAMESPACE,
            registry=target.registry,
            version=version("roundhouse"),
            away=away,
            seconds=seconds,
        )
    )


def make() -> str:
    """`make` of the cluster of this demo, also for a shell that was not told which one that is."""
    named = (f"{name}={os.environ[name]} " for name in WHICH if os.environ.get(name))
    return f"{''.join(named)}make"


def prepare() -> tuple[Target, list[str]]:
    """Packages, cluster, images: where to install, and the images that were loaded there."""
    print_plan()
    folders: list[str] = []
    with step("Debian packages: curl, and speech to transcribe"):
        install(PACKAGES, purpose="the recordings")
    with step("Cluster"):
        target = find_target()
    if not target.context:
        with step("Images"):
            project("tests.images", "build", *IMAGES)
            folders = project("tests.images", "folders", *IMAGES).split()
            project("tests.cluster.local", "load", *folders)
    return target, folders


def print_plan() -> None:
    context = os.environ.get("ROUNDHOUSE_CONTEXT", "")
    cluster = (
        f"nothing: kube context {context!r} is used" if context else "Kubernetes 1.34, built from source"
    )
    cache = os.environ.get("ROUNDHOUSE_CACHE", "~/.cache/roundhouse")
    packages = " ".join(missing(PACKAGES)) or "none are missing"
    print(PLAN.format(packages=packages, cache=cache, cluster=cluster))


def deploy(target: Target, folders: Sequence[str]) -> None:
    """The chart, the example's engine and model, and the gateway on loopback."""
    values = {"image.registry": target.registry}
    for folder in folders:  # the tag stays when an image is built anew; its folder's name does not
        name = Path(folder).name
        component = name.split("-", 1)[0]
        if component in {"operator", "gateway"}:
            values[f"{component}.podAnnotations.image"] = name
    with step("Chart"):
        install_chart(target.environment, namespace=NAMESPACE, values=values)
    with step("kubectl apply -f examples/pocketsphinx.yaml"):
        manifest = (ROOT / "examples/pocketsphinx.yaml").read_text().replace(LOCAL_REGISTRY, target.registry)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(manifest)
            file.flush()
            print(indented(target.kubectl("apply", "--namespace", NAMESPACE, "--filename", file.name)))
        wait = ("wait", "--for=condition=Ready", f"modelvariant/{MODEL}", "--timeout=180s")
        print(indented(target.kubectl(*wait, "--namespace", NAMESPACE)))
        print(indented(target.kubectl("get", "roundhouse", "--namespace", NAMESPACE)))
    with step(f"Gateway on {target.url}"):
        port = target.url.rsplit(":", 1)[1]
        service = f"{NAMESPACE}/roundhouse-gateway"
        project("tests.cluster.local", "expose", "--service", service, "--port", port, "--target", "http")
        wait_for_model(target)


def wait_for_model(target: Target) -> None:
    """The gateway follows the cluster: it knows a model moments after it is Ready."""
    command = ["curl", "--silent", "--fail", f"{target.url}/v1/models/{MODEL}"]

    def running() -> bool:
        try:
            return '"running"' in run(command)
        except DemoError as error:
            raise AssertionError(str(error)) from error

    try:
        wait_until(running, seconds=60, what=f"`{' '.join(command)}` says that the model is running")
    except AssertionError as error:
        raise DemoError(str(error)) from error


def ask(target: Target) -> None:
    """A person's recording by curl, a spoken sentence by the official client; both must be understood."""
    with tempfile.TemporaryDirectory() as folder, step("A person's recording, by curl"):
        path = Path(folder) / "goforward.wav"
        path.write_bytes(go_forward())
        command = ["curl", "--silent", "--show-error", f"{target.url}/v1/audio/transcriptions"]
        command += ["-F", f"model={MODEL}", "-F", "response_format=text", "-F", f"file=@{path}"]
        print(f"  $ {' '.join(command)}")
        compare(run(command), GO_FORWARD_WORDS)
    with step("A sentence spoken by flite, by the official openai client, model auto"):
        from openai import OpenAI  # noqa: PLC0415 - half a second that only this step needs

        with OpenAI(base_url=f"{target.url}/v1", api_key="none needed") as client:
            speech = ("weather.wav", spoken(WEATHER_WORDS))
            compare(client.audio.transcriptions.create(model="auto", file=speech).text, WEATHER_WORDS)


def compare(heard: str, said: str) -> None:
    print(f'  heard: "\033[1m{heard.strip()}\033[0m"')
    if heard.strip() != said:
        raise DemoError(f"the recording says {said!r}, the engine heard {heard.strip()!r}")


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines())


if __name__ == "__main__":
    main()
