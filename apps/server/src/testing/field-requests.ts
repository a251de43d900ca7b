import type { DescField, DescMessage, JsonObject, JsonValue } from "@bufbuild/protobuf";

/** Well-known types that a value may stand in, as a key or as a text. */
const STRUCT = "google.protobuf.Struct";

/**
 * JSON requests that each have `value` in one field, however deep, whether it fits there or not, and
 * elsewhere what `base` has for the fields of the request.
 */
export function* requestsWith(
  desc: DescMessage,
  value: string,
  base: Readonly<Record<string, JsonValue>> = {},
): Generator<JsonObject> {
  for (const field of desc.fields) {
    const others = desc.fields.filter(
      ({ jsonName, oneof }) => jsonName !== field.jsonName && (oneof ?? desc) !== field.oneof,
    );
    const rest = Object.fromEntries(
      others.flatMap(({ jsonName }) => {
        const known = base[jsonName];
        return known === undefined ? [] : [[jsonName, known]];
      }),
    );
    for (const filling of fillings(field, value)) yield { ...rest, [field.jsonName]: filling };
  }
}

function* fillings(field: DescField, value: string): Generator<JsonValue> {
  switch (field.fieldKind) {
    case "map":
      yield { [value]: value };
      return;
    case "list":
      yield [value];
      yield value;
      return;
    case "message":
      if (field.message.typeName === STRUCT) {
        yield { [value]: value };
        yield { [value]: { [value]: [value] } };
      } else if (!field.message.typeName.startsWith("google.protobuf.")) {
        yield* requestsWith(field.message, value);
      }
      // It fits nowhere, but callers confuse fields.
      yield value;
      return;
    default:
      yield value;
      yield [value];
  }
}
