"""The cloud on one machine: what the app needs around it to run, to be shown and to be tested."""
