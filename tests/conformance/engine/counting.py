"""A stream of a model that was made to count to three: alike for every engine that has one."""

from tests.conformance.engine.running import Engine


def assert_counts_in_a_stream_up_to_its_limit(engine: Engine) -> None:
    """By OpenAI's own client; the limit is two tokens, which are two words."""
    with (
        engine.client as client,
        client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "count"}],
            temperature=0,
            max_tokens=2,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream,
    ):
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.split() == ["one", "two"]
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2
