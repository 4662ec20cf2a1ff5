// What a model file says about itself. ONNX Runtime's JavaScript does not give the metadata properties of a file,
// so they are read from its bytes: an ONNX file is a protobuf message, and of its fields only the properties matter.
// Source: onnx.proto of ONNX, ModelProto and StringStringEntryProto; protobuf's "Encoding" for the wire format.

import { Normalization } from "./normalization.js";

const FORMAT_VERSION = "1";
const FORMAT_PROPERTY = "grapheme_to_phoneme.format_version";
const DESCRIPTION_PROPERTY = "grapheme_to_phoneme.description";

/** Fields of ModelProto, and of StringStringEntryProto. */
const IR_VERSION_FIELD = 1;
const GRAPH_FIELD = 7;
const METADATA_FIELD = 14;
const KEY_FIELD = 1;
const VALUE_FIELD = 2;

/** Wire types of protobuf. */
const VARINT = 0;
const FIXED_64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED_32 = 5;

/** Where protobuf ends a varint at the latest. */
const LONGEST_VARINT = 10;

/** A mistake that a user can mend; its message is one line that says what is wrong and what to do. */
export class UserError extends Error {}

/**
 * Yields every field of a protobuf message.
 *
 * @param {Uint8Array} bytes the message.
 * @returns {Generator<{field: number, wireType: number, content: Uint8Array}>} content is empty for numbers.
 * @throws {RangeError} if the bytes are no message, or end in the middle of one.
 */
function* readFields(bytes) {
  let position = 0;
  const readVarint = () => {
    let value = 0;
    for (let i = 0; i < LONGEST_VARINT; i++) {
      if (position >= bytes.length) {
        throw new RangeError("the message ends within a number");
      }
      const byte = bytes[position++];
      // No bit operations: they are for 32 bits, and lengths may need more.
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) {
        return value;
      }
    }
    throw new RangeError("a number is too long");
  };
  while (position < bytes.length) {
    const tag = readVarint();
    const field = Math.floor(tag / 8);
    const wireType = tag % 8;
    let length = 0;
    if (wireType === VARINT) {
      readVarint();
    } else if (wireType === LENGTH_DELIMITED) {
      length = readVarint();
    } else if (wireType === FIXED_64) {
      length = 8;
    } else if (wireType === FIXED_32) {
      length = 4;
    } else {
      throw new RangeError(`there is no wire type ${wireType}`);
    }
    if (field === 0 || position + length > bytes.length) {
      throw new RangeError("the message ends within a field");
    }
    yield { field, wireType, content: bytes.subarray(position, position + length) };
    position += length;
  }
}

/** Returns the metadata properties of an ONNX file as a map. */
function readProperties(bytes, name) {
  const properties = new Map();
  const seen = new Set();
  try {
    for (const { field, wireType, content } of readFields(bytes)) {
      seen.add(`${field} ${wireType}`);
      if (field === METADATA_FIELD && wireType === LENGTH_DELIMITED) {
        const entry = new Map();
        for (const { field: part, content: text } of readFields(content)) {
          entry.set(part, new TextDecoder().decode(text));
        }
        properties.set(entry.get(KEY_FIELD), entry.get(VALUE_FIELD));
      }
    }
  } catch (error) {
    // An ONNX file begins with its version; the rest of it may be missing.
    if (seen.has(`${IR_VERSION_FIELD} ${VARINT}`)) {
      throw new UserError(`${name} is not whole: copy it again`, { cause: error });
    }
  }
  if (
    !seen.has(`${IR_VERSION_FIELD} ${VARINT}`) ||
    !seen.has(`${GRAPH_FIELD} ${LENGTH_DELIMITED}`)
  ) {
    throw new UserError(`${name} is no ONNX file: choose a model.onnx that “g2p train” wrote`);
  }
  return properties;
}

function readDescription(text, name) {
  try {
    const description = JSON.parse(text);
    const { letters, phones } = description;
    if (!Array.isArray(letters) || !Array.isArray(phones)) {
      throw new TypeError("there are no alphabets");
    }
    return { ...description, normalization: new Normalization(description.normalization) };
  } catch (error) {
    throw new UserError(`${name} is damaged: its description cannot be read`, { cause: error });
  }
}

/**
 * Reads what `g2p export` wrote into a model file.
 *
 * @param {Uint8Array} bytes the whole file.
 * @param {string} name the file's name, for the messages.
 * @returns {object} the description as grapheme_to_phoneme/inference/metadata.py has it, its `normalization` ready to use.
 * @throws {UserError} if the file is no model of this project, damaged, of another format version, or of several languages.
 */
export function readMetadata(bytes, name) {
  const properties = readProperties(bytes, name);
  const version = properties.get(FORMAT_PROPERTY);
  if (version === undefined) {
    throw new UserError(`${name} is an ONNX file, but no model that “g2p export” wrote`);
  }
  if (version !== FORMAT_VERSION) {
    throw new UserError(
      `${name} has format version ${version}, this page reads ${FORMAT_VERSION}: ` +
        "export the model again, or take the page of the version that wrote it",
    );
  }
  const description = readDescription(properties.get(DESCRIPTION_PROPERTY), name);
  if (description.languages?.length) {
    throw new UserError(`${name} knows several languages, and this page shows models of one`);
  }
  if (description.direction === "phoneme-to-grapheme") {
    throw new UserError(
      `${name} spells what is pronounced: this page takes models that pronounce words`,
    );
  }
  return description;
}
