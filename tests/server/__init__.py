"""A loopback W&B server: it accepts the real client, refuses what the real server would not
accept, and keeps everything it received so that tests can compare it."""
