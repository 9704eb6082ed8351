"""Recordings in Kafka: addresses of topics, reading and writing them, and a local broker.

One topic holds one recording: one partition, nothing compacted or expired (docs/recording-format.md).
"""
