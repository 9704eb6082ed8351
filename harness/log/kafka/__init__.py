"""Kafka as a place for recordings: where a topic is, reading it, writing it, and a broker for trying out.

One topic holds one recording: one partition, nothing compacted or expired (docs/recording-format.md).
"""
