"""Facts about the built-in: the metric patterns of the platform, and the settings of its official notebooks."""

from __future__ import annotations

#: The registered patterns with which the platform finds metrics in a log.
PATTERNS = {
    "test:accuracy": r"#quality_metric: host=\S+, test accuracy <score>=(\S+)",
    "test:cross_entropy": r"#quality_metric: host=\S+, test cross_entropy <loss>=(\S+)",
    "test:mean_squared_error": r"#quality_metric: host=\S+, test mean_squared_error <loss>=(\S+)",
    "train:accuracy": r"#quality_metric: host=\S+, epoch=\S+, train accuracy <score>=(\S+)",
    "train:cross_entropy": r"#quality_metric: host=\S+, epoch=\S+, train cross_entropy <loss>=(\S+)",
    "train:mean_squared_error": r"#quality_metric: host=\S+, epoch=\S+, train mean_squared_error <loss>=(\S+)",
    "train:progress": r"#progress_metric: host=\S+, completed (\S+) %",
    "train:throughput": r"#throughput_metric: host=\S+, train throughput=(\S+) records/second",
    "validation:accuracy": r"#quality_metric: host=\S+, epoch=\S+, validation accuracy <score>=(\S+)",
    "validation:cross_entropy": r"#quality_metric: host=\S+, epoch=\S+, validation cross_entropy <loss>=(\S+)",
    "validation:mean_squared_error": (
        r"#quality_metric: host=\S+, epoch=\S+, validation mean_squared_error <loss>=(\S+)"
    ),
}

MOVIES = {
    **{"_kvstore": "device", "_num_gpus": "auto", "_num_kv_servers": "auto", "bucket_width": 0},
    **{"early_stopping_patience": 3, "early_stopping_tolerance": 0.01, "num_classes": 2, "optimizer": "adam"},
    **{"enc0_network": "pooled_embedding", "enc0_layers": "auto", "enc0_cnn_filter_width": 3, "epochs": 20},
    **{"enc1_network": "pooled_embedding", "enc1_layers": "auto", "enc0_max_seq_len": 1, "enc1_max_seq_len": 1},
    **{"enc0_vocab_size": 944, "enc1_vocab_size": 1684, "learning_rate": 0.001, "mlp_layers": 1},
    **{"enc0_token_embedding_dim": 300, "enc1_token_embedding_dim": 300},
}
RATINGS = {
    **MOVIES,
    **{"output_layer": "mean_squared_error", "enc_dim": 1024, "mlp_dim": 256, "mlp_activation": "tanh"},
    "mini_batch_size": 64,
}
SENTENCES = {
    **{"_kvstore": "device", "_num_gpus": "auto", "_num_kv_servers": "auto", "bucket_width": 0, "dropout": 0},
    **{"early_stopping_patience": 3, "early_stopping_tolerance": 0.01, "enc0_layers": "auto", "enc1_network": "enc0"},
    **{"enc0_max_seq_len": 82, "enc0_network": "hcnn", "enc0_token_embedding_dim": 300, "enc0_vocab_size": 43533},
    **{"enc0_cnn_filter_width": 3, "learning_rate": 0.0004, "mlp_activation": "linear", "mlp_dim": 512},
    **{"mlp_layers": 2, "num_classes": 3, "optimizer": "adam", "output_layer": "softmax", "weight_decay": 0},
}
#: The hyperparameters of each official notebook, as text, like the client sends them.
NOTEBOOKS = {
    name: {key: str(value) for key, value in values.items()}
    for name, values in {
        "movies, ratings": RATINGS,
        "movies, recommendation": MOVIES
        | {"output_layer": "softmax", "enc_dim": 2048, "mlp_dim": 1024, "mlp_activation": "relu"}
        | {"mini_batch_size": 2048, "enc1_cnn_filter_width": 3},
        "sentences, quick": SENTENCES | {"mini_batch_size": 8192, "enc_dim": 16, "epochs": 2},
        "sentences, full": SENTENCES | {"mini_batch_size": 256, "enc_dim": 8192, "epochs": 20},
        "sentences, pretrained": SENTENCES
        | {"mini_batch_size": 256, "enc_dim": 8192, "epochs": 20, "enc0_vocab_file": "all_vocab.json"}
        | {"enc0_pretrained_embedding_file": "glove.840B-trim.txt", "enc0_freeze_pretrained_embedding": "true"},
        "genres": {
            **{"enc0_network": "hcnn", "enc1_network": "hcnn", "enc0_layers": "2", "enc1_layers": "1"},
            **{"enc0_max_seq_len": 500, "enc1_max_seq_len": 2, "enc0_vocab_size": 60000, "enc1_vocab_size": 28},
            **{"enc0_token_embedding_dim": 300, "enc1_token_embedding_dim": 10, "enc_dim": 4096},
            **{"enc0_cnn_filter_width": 2, "enc1_cnn_filter_width": 1, "bucket_width": 10, "mini_batch_size": 256},
            **{"mlp_layers": 2, "mlp_dim": 512, "mlp_activation": "relu", "output_layer": "softmax", "num_classes": 2},
            **{"enc0_pretrained_embedding_file": "glove.840B.300d.txt", "enc0_vocab_file": "vocab.json"},
            **{"enc0_freeze_pretrained_embedding": "true", "enc1_vocab_file": "", "_num_gpus": "auto"},
        },
        "documents": {
            **{"_kvstore": "device", "_num_gpus": "auto", "_num_kv_servers": "auto", "bucket_width": 0},
            **{"dropout": 0.4, "early_stopping_patience": 2, "early_stopping_tolerance": 0.01, "enc0_layers": "auto"},
            **{"enc0_max_seq_len": 50, "enc0_network": "pooled_embedding", "enc0_token_embedding_dim": 300},
            **{"enc0_vocab_size": 267522, "enc1_network": "enc0", "enc_dim": 300, "epochs": 20},
            **{"learning_rate": 0.01, "mini_batch_size": 512, "mlp_activation": "relu", "mlp_dim": 512},
            **{"mlp_layers": 2, "num_classes": 2, "optimizer": "adam", "output_layer": "softmax", "weight_decay": 0},
            **{"comparator_list": "hadamard", "tied_token_embedding_weight": "true", "negative_sampling_rate": 3},
            **{"token_embedding_storage_type": "row_sparse"},
        },
    }.items()
}
