"""The names of what lies in a run's folder. Its schema is docs/run_folder.md."""

SCHEMA_VERSION = 1
METRICS, RECORDS, STATUS, CHECKPOINTS = "metrics.jsonl", "records.sha256", "status.json", "checkpoints"
NONFINITE = "nonfinite"
KINDS = "rollouts", "tokens", "evals"
STARTING = "config.json", "environment.json"
