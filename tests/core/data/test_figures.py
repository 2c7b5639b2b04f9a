"""Figures of merit, and what is stored of them."""

from fedcore.core.data.figures import Figure, Metrics, Sample


def test_a_figure_tells_its_value_and_which_is_better() -> None:
    perplexity = Figure(name="perplexity", title="perplexity", higher_is_better=False, digits=1)
    assert perplexity.of({"perplexity": 3.14}) == "perplexity 3.1" and perplexity.of({}) == "perplexity n/a"
    assert perplexity.exceeds(3.0, 4.0) and not perplexity.exceeds(3.0, 3.5, margin=0.5)


def test_samples_are_stored_where_there_are_any() -> None:
    metrics = Metrics(figures={"accuracy": 0.5}, rows=2, answers=(1, 1))
    assert metrics.flat() == {"accuracy": 0.5, "rows": 2, "answers": (1, 1)}, "as every version stored it"
    written = Metrics(figures={}, rows=1, samples=(Sample(prompt="a", reference="b", answer="c"),))
    assert written.flat()["samples"] == [{"prompt": "a", "reference": "b", "answer": "c"}]
