// Pronounces words with a model file and ONNX Runtime alone, natively or as WebAssembly.
// Usage: node pronounce.mjs onnxruntime-node|onnxruntime-web MODEL < words.json > answers.json

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { cwd } from "node:process";
import { pathToFileURL } from "node:url";

const [runtime, model] = process.argv.slice(2);
// The packages are installed in the folder that this is run in, not beside this file.
const entry = createRequire(join(cwd(), "package.json")).resolve(runtime);
const loaded = await import(pathToFileURL(entry).href);
const ort = loaded.default ?? loaded;
if (runtime === "onnxruntime-web") {
  ort.env.wasm.numThreads = 1;
}
const words = JSON.parse(readFileSync(0, "utf-8"));
const session = await ort.InferenceSession.create(readFileSync(model));
const results = await session.run({
  words: new ort.Tensor("string", words, [words.length]),
  beam_size: new ort.Tensor("int64", BigInt64Array.from([1n]), [1]),
});
process.stdout.write(
  JSON.stringify({
    pronunciations: results.pronunciations.data,
    logProbabilities: Array.from(results.log_probabilities.data),
  }),
);
