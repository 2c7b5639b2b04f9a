from fedcore.protos.records import encoding, overrides


def test_settings_with_a_table_are_ours_in_the_words_of_a_configuration() -> None:
    shared = {"run.rounds": 3, "training.keep_optimizer": True, "training.learning_rate": 2e-3, "run-dir": "x"}
    assert overrides(shared) == ["run.rounds=3", "training.keep_optimizer=true", "training.learning_rate=0.002"]


def test_an_array_says_which_codec_made_it() -> None:
    assert encoding("ef+int8+zstd") == "fedcore.ef+int8+zstd"
