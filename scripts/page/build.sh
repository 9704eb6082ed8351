#!/usr/bin/env bash
# Bundles the third-party libraries of harness/explore/page; run by `make page`, the result is committed.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --no-fund --no-audit
npx esbuild vendor.mjs --bundle --format=esm --minify --legal-comments=none \
  --banner:js="/* preact (MIT, its authors) and htm (Apache-2.0, its authors), bundled by scripts/page/build.sh */" \
  --outfile=../../harness/explore/page/vendor.js
