// Loads models and pronounces words beside the page, so that the page never stops answering.
//
// Takes {kind: "load", id, url | file} and {kind: "pronounce", id, words, count}; answers with the same id and a kind:
// "progress", "loaded", "answers" or "failed". A newer request of a kind ends an older one.

import { UserError } from "./model_metadata.js";
import { Pronouncer } from "./pronouncer.js";

const RUNTIME = new URL("onnxruntime/ort.wasm.bundle.min.mjs", import.meta.url);
const RUNTIME_BINARY = new URL("onnxruntime/ort-wasm-simd-threaded.wasm", import.meta.url);

/** More than a browser has room for twice. */
const LARGEST_FILE = 2 ** 30;

/** Words whose answers the page gets at once. */
const WORDS_PER_ANSWER = 256;

/** At least so many milliseconds between two reports of progress. */
const PROGRESS_INTERVAL = 50;

const latest = { load: 0, pronounce: 0 };
let runtime;
let pronouncer;
/** Ends when every request to pronounce that came so far is answered. */
let pronounced = Promise.resolve();

/** Reads a stream to its end and tells how far it is. */
async function readAll(stream, total, report) {
  let loaded = 0;
  let reported = -Infinity;
  const counter = new TransformStream({
    transform(chunk, controller) {
      loaded += chunk.byteLength;
      if (performance.now() - reported > PROGRESS_INTERVAL) {
        reported = performance.now();
        report(loaded, total);
      }
      controller.enqueue(chunk);
    },
  });
  return new Uint8Array(await new Response(stream.pipeThrough(counter)).arrayBuffer());
}

/** Fetches a file of the page's own server. */
async function fetchAll(url, what, report) {
  try {
    const response = await fetch(url);
    if (!response.ok) {
      throw new UserError(`the server has no ${what} (status ${response.status})`);
    }
    // Of a compressed answer the length that arrives is not known.
    const isPlain = !response.headers.has("Content-Encoding");
    const total = isPlain ? Number(response.headers.get("Content-Length")) : 0;
    return await readAll(response.body, total, report);
  } catch (error) {
    if (error instanceof UserError) {
      throw error;
    }
    throw new UserError(`${what} cannot be fetched: is the server still running?`, {
      cause: error,
    });
  }
}

/** Returns ONNX Runtime, ready to load models. */
async function loadRuntime(report) {
  let ort;
  try {
    ort = await import(RUNTIME.href);
  } catch (error) {
    throw new UserError(
      "the server has no ONNX Runtime beside the page: start it with “g2p demo”",
      {
        cause: error,
      },
    );
  }
  // What goes wrong is told by the errors themselves.
  ort.env.logLevel = "fatal";
  // More threads want headers that a plain file server does not send.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await fetchAll(RUNTIME_BINARY, "ONNX Runtime", report);
  return ort;
}

async function readModel({ url, file }, report) {
  if (url) {
    return fetchAll(url, "model", report);
  }
  if (file.size > LARGEST_FILE) {
    throw new UserError(`${file.name} is larger than a browser can load`);
  }
  try {
    return await readAll(file.stream(), file.size, report);
  } catch (error) {
    throw new UserError(`${file.name} cannot be read: ${error.message}`, { cause: error });
  }
}

async function load(request) {
  const report = (stage) => (loaded, total) =>
    self.postMessage({ kind: "progress", id: request.id, stage, loaded, total });
  runtime ??= loadRuntime(report("runtime"));
  let ort;
  try {
    ort = await runtime;
  } catch (error) {
    // The next attempt begins anew.
    runtime = undefined;
    throw error;
  }
  const name = request.file?.name ?? "the model";
  const bytes = await readModel(request, report("model"));
  report("start")(0, 0);
  const loaded = await Pronouncer.load(ort, bytes, name);
  if (request.id !== latest.load) {
    await loaded.release();
    return;
  }
  const former = pronouncer;
  pronouncer = loaded;
  pronounced.then(() => former?.release());
  const { normalization, ...metadata } = loaded.metadata;
  self.postMessage({ kind: "loaded", id: request.id, metadata, size: bytes.length });
}

async function pronounce({ id, words, count }) {
  const started = performance.now();
  const model = pronouncer;
  if (id !== latest.pronounce) {
    return;
  }
  for (let start = 0; start < words.length; start += WORDS_PER_ANSWER) {
    const answers = await model.pronounce(words.slice(start, start + WORDS_PER_ANSWER), count);
    // Lets a newer request in, which ends this one.
    await new Promise((resolve) => setTimeout(resolve));
    if (id !== latest.pronounce || model !== pronouncer) {
      return;
    }
    const milliseconds = performance.now() - started;
    self.postMessage({ kind: "answers", id, answers, milliseconds });
  }
}

/** Does what a message asks for, and tells the page where that fails. */
async function handle(request) {
  try {
    await (request.kind === "load" ? load(request) : pronounce(request));
  } catch (error) {
    const isMendable = error instanceof UserError;
    const message = isMendable
      ? error.message
      : `this should not happen, please report it: ${error}`;
    self.postMessage({ kind: "failed", id: request.id, of: request.kind, message });
  }
}

self.addEventListener("message", ({ data }) => {
  latest[data.kind] = data.id;
  if (data.kind === "pronounce") {
    pronounced = pronounced.then(() => handle(data));
  } else {
    handle(data);
  }
});
