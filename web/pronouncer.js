// Pronounces words with a model file, as grapheme_to_phoneme/inference/pronouncer.py does.

import { readMetadata, UserError } from "./model_metadata.js";

/** Hypotheses per wanted pronunciation: several may differ in their alignment alone. */
const HYPOTHESES_PER_ANSWER = 2;

/** Most letters of all hypotheses in a batch; bounds the memory. */
const LETTERS_PER_BATCH = 1024;

/** What a model file takes and gives. */
const INPUTS = ["words", "beam_size"];
const OUTPUTS = ["pronunciations", "log_probabilities", "chunks"];

/** What ONNX Runtime puts in front of its messages: the place in its own source. */
const SOURCE_LOCATION = /^.*ERROR_MESSAGE: (?:\S+\.(?:cc|h):\d+ .*\) )?/;

/** Longer words are pronounced piece by piece, in letters. */
const LONGEST_WORD = 256;

/**
 * One pronunciation of a word.
 *
 * @typedef {object} Choice
 * @property {string[]} phones its phones in order.
 * @property {number} probability the model's probability, 0 to 1.
 * @property {[string, string[]][]} alignment every letter with the phones that it gave, none for a silent one.
 */

/**
 * What the model says of a word.
 *
 * @typedef {object} Answer
 * @property {string} word the word as it was given.
 * @property {Choice[]} choices best first; none where the model knows no character of the word.
 * @property {string[]} unknownCharacters what the model does not know, in order of appearance.
 */

export class Pronouncer {
  #ort;
  #session;
  #letters;

  constructor(ort, session, metadata) {
    this.#ort = ort;
    this.#session = session;
    this.#letters = new Set(metadata.letters);
    this.metadata = metadata;
  }

  /**
   * Loads a model.
   *
   * @param {object} ort the module onnxruntime-web.
   * @param {Uint8Array} bytes the model file.
   * @param {string} name its name, for the messages.
   * @throws {UserError} if it is no model of this project.
   */
  static async load(ort, bytes, name) {
    const metadata = readMetadata(bytes, name);
    let session;
    try {
      session = await ort.InferenceSession.create(bytes);
    } catch (error) {
      const [line] = String(error.message ?? error).split("\n");
      const reason = line.replace(SOURCE_LOCATION, "");
      throw new UserError(`${name} cannot be loaded: ${reason.slice(0, 200)}`, { cause: error });
    }
    const known = new Set([...session.inputNames, ...session.outputNames]);
    const missing = [...INPUTS, ...OUTPUTS].filter((tensor) => !known.has(tensor));
    if (missing.length > 0) {
      await session.release();
      throw new UserError(
        `${name} cannot be used: it has no ${missing.join(", ")}; export the model again`,
      );
    }
    return new Pronouncer(ort, session, metadata);
  }

  /** Gives the model's memory back. */
  async release() {
    await this.#session.release();
  }

  /**
   * Pronounces words; the answers come in their order, one for each.
   *
   * @param {string[]} words spellings, as people write them.
   * @param {number} count how many pronunciations to give at most: greedy search for one, otherwise a beam.
   * @returns {Promise<Answer[]>}
   */
  async pronounce(words, count) {
    const beamSize = count === 1 ? 1 : HYPOTHESES_PER_ANSWER * count;
    const spelled = words.map((word) => this.#spell(this.metadata.normalization.apply(word)));
    const distinct = new Set(spelled.map(({ letters }) => letters.join("")));
    distinct.delete("");
    const found = await this.#search(distinct, beamSize);
    return words.map((word, i) => ({
      word,
      choices: (found.get(spelled[i].letters.join("")) ?? []).slice(0, count),
      unknownCharacters: spelled[i].unknown,
    }));
  }

  /** Returns the letters of a spelling that the model knows, and what it does not know. */
  #spell(normalized) {
    const letters = [];
    const unknown = [];
    for (const character of normalized) {
      if (this.#letters.has(character)) {
        letters.push(character);
      } else {
        unknown.push(character);
        // An unknown accented letter is still more like its base letter than nothing.
        letters.push(...[...character.normalize("NFD")].filter((part) => this.#letters.has(part)));
      }
    }
    return { letters, unknown };
  }

  /** Returns the distinct hypotheses of every spelling, best first. */
  async #search(spellings, beamSize) {
    const found = new Map();
    const byLength = new Map();
    for (const spelling of spellings) {
      const { length } = [...spelling];
      if (length > LONGEST_WORD) {
        found.set(spelling, await this.#searchPieces(spelling, beamSize));
      } else {
        byLength.set(length, [...(byLength.get(length) ?? []), spelling]);
      }
    }
    // Words of one length need no padding.
    for (const [length, group] of byLength) {
      const rows = Math.max(1, Math.floor(LETTERS_PER_BATCH / (length * beamSize)));
      for (let start = 0; start < group.length; start += rows) {
        const batch = group.slice(start, start + rows);
        const answers = await this.#run(batch, beamSize);
        batch.forEach((spelling, i) => found.set(spelling, answers[i]));
      }
    }
    return found;
  }

  async #run(batch, beamSize) {
    const results = await this.#session.run({
      words: new this.#ort.Tensor("string", batch, [batch.length]),
      beam_size: new this.#ort.Tensor("int64", BigInt64Array.of(BigInt(beamSize)), [1]),
    });
    const { pronunciations, log_probabilities: scores, chunks } = results;
    const [, hypotheses, letters] = chunks.dims;
    return batch.map((spelling, row) => {
      const choices = Array.from({ length: hypotheses }, (_, column) => {
        const place = row * hypotheses + column;
        return {
          text: pronunciations.data[place],
          score: scores.data[place],
          chunks: chunks.data.slice(place * letters, (place + 1) * letters),
        };
      });
      return mergeHypotheses([...spelling], choices);
    });
  }

  /** Pronounces a spelling that is no word of any language, in bounded memory. */
  async #searchPieces(spelling, beamSize) {
    const letters = [...spelling];
    const pieces = [];
    for (let start = 0; start < letters.length; start += LONGEST_WORD) {
      pieces.push(letters.slice(start, start + LONGEST_WORD).join(""));
    }
    const found = await this.#search(new Set(pieces), beamSize);
    const best = pieces.map((piece) => found.get(piece)[0]);
    return [
      {
        phones: best.flatMap(({ phones }) => phones),
        probability: best.reduce((product, { probability }) => product * probability, 1),
        alignment: best.flatMap(({ alignment }) => alignment),
      },
    ];
  }
}

/**
 * Joins hypotheses that say the same with different alignments, and drops impossible ones.
 *
 * They come best first, so the first that says something has its most probable alignment. The
 * best one stays even where it is impossible. Sorting keeps the order of those whose probability
 * is too small for any number but 0.
 */
function mergeHypotheses(letters, hypotheses) {
  const merged = new Map();
  for (const { text, score, chunks } of hypotheses) {
    const probability = Math.exp(score);
    const known = merged.get(text);
    if (known) {
      known.probability += probability;
    } else if (score > -Infinity || merged.size === 0) {
      const alignment = letters.map((letter, i) => [letter, phonesOf(chunks[i])]);
      merged.set(text, { phones: phonesOf(text), probability, alignment });
    }
  }
  return [...merged.values()]
    .map((choice) => ({ ...choice, probability: Math.min(1, choice.probability) }))
    .sort((first, second) => second.probability - first.probability);
}

function phonesOf(text) {
  return text.split(" ").filter((phone) => phone !== "");
}
