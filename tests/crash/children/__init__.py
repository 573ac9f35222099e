"""What the processes of the crash tests do. Each case runs in a fork of one process that has CrewAI loaded."""
