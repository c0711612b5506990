import { viewOf } from '../sys/bytes.ts';

type FieldType = 'u16' | 'u32' | 's32' | 'u64' | 's64' | 'id';
const SIZES: Readonly<Record<FieldType, number>> = { u16: 2, u32: 4, s32: 4, u64: 8, s64: 8, id: 8 };

interface Field {
  readonly name: string;
  readonly type: FieldType;
  readonly at: number;
}

/**
 * A struct of the wire protocol, written as the kernel's header lists it: `fh:u64 size:u32 _:u32`. `_` is
 * padding. u64 and s64 become numbers (rounded above 2^53), `id` a decimal string: for values that are only
 * ever compared or sent back.
 */
export interface Layout {
  readonly fields: readonly Field[];
  readonly bytes: number;
}

export type FieldValues = Record<string, number | string>;

export function layout(text: string): Layout {
  const fields: Field[] = [];
  let at = 0;
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const [name = '', type = ''] = word.split(':');
    if (!(type in SIZES)) throw new TypeError(`${word} is not a field`);
    const field = { name, type: type as FieldType, at };
    at += SIZES[field.type];
    if (name !== '_') fields.push(field);
  }
  return { fields, bytes: at };
}

/** @throws RangeError when there are fewer bytes than the struct has. */
export function readLayout(struct: Layout, bytes: Uint8Array): FieldValues {
  const view = viewOf(bytes);
  const values: FieldValues = {};
  for (const field of struct.fields) values[field.name] = readField(view, field);
  return values;
}

function readField(view: DataView, { type, at }: Field): number | string {
  switch (type) {
    case 'u16':
      return view.getUint16(at, true);
    case 'u32':
      return view.getUint32(at, true);
    case 's32':
      return view.getInt32(at, true);
    case 'u64':
      return view.getUint32(at, true) + view.getUint32(at + 4, true) * WORD;
    case 's64':
      return Number(view.getBigInt64(at, true));
    case 'id':
      return view.getBigUint64(at, true).toString();
  }
}

/** Fields that have no value are 0. */
export function writeLayout(
  struct: Layout,
  values: Readonly<Record<string, number | bigint | string>>,
): Uint8Array {
  const bytes = new Uint8Array(struct.bytes);
  const view = viewOf(bytes);
  for (const { name, type, at } of struct.fields) {
    const value = values[name] ?? 0;
    if (type === 'u32' || type === 's32') view.setUint32(at, Number(value), true);
    else if (type === 'u16') view.setUint16(at, Number(value), true);
    else if (typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER) {
      // Numbers that fit are most, and big ones take long.
      view.setUint32(at, value % WORD, true);
      view.setUint32(at + 4, value / WORD, true);
    } else view.setBigUint64(at, toBigInt(value), true);
  }
  return bytes;
}

const WORD = 2 ** 32;

/** The lowest 64 bits of it are what is written. */
function toBigInt(value: number | bigint | string): bigint {
  return typeof value === 'number' ? BigInt(Math.trunc(value)) : BigInt(value);
}
