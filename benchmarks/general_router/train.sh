#!/bin/sh
# The general router's recipe: a table of prompts.py in, a router folder out.
# Usage: sh benchmarks/general_router/train.sh PROMPTS.parquet ROUTER_FOLDER
set -eu
prompts=$1
router=$2

turnout build "$prompts" --outcomes --split 90:8:2 -o "$router-data"
turnout train "$router-data" -o "$router" \
  --max-tokens 160 --epochs 1 --batch-size 32 --learning-rate 2e-4
