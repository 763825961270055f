# Everything a person runs. `make help` lists it.
.DEFAULT_GOAL := help
