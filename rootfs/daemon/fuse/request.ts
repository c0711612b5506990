import type { OpcodeName } from '../../protocol/fuse.ts';
import { layout, readLayout, type FieldValues } from './layout.ts';
import { operationOf, type Operation } from './operations.ts';

const HEADER = layout('len:u32 opcode:u32 unique:u64 nodeid:u64 uid:u32 gid:u32 pid:u32 extlen:u16 _:u16');
export const HEADER_BYTES = HEADER.bytes;
const FORGET_ONE = layout('nodeid:u64 nlookup:u64');
const EXTENSION = layout('size:u32 type:u32');
/** FUSE_EXT_GROUPS: a count and as many groups of 32 bits. */
const EXTENSION_GROUPS = 32;

export interface Header {
  readonly opcode: number;
  readonly unique: number;
  readonly nodeid: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

/** A request as read from the device, with its fixed part by field name and its tail taken apart. */
export interface Request extends Header {
  readonly operation: Operation | undefined;
  readonly label: OpcodeName | `OPCODE_${number}`;
  readonly fields: FieldValues;
  readonly name: string;
  /** Second name of RENAME, target of SYMLINK. */
  readonly secondName: string;
  /** WRITE's and IOCTL's data, SETXATTR's value. */
  readonly data: Uint8Array;
  readonly forgets: readonly { readonly nodeid: number; readonly nlookup: number }[];
  /** Supplementary groups of the caller that the request tells (CREATE_SUPP_GROUP). */
  readonly groups: readonly number[];
  /** Everything after the header, for what the fields leave out. */
  readonly body: Uint8Array;
}

/** The kernel sent something that is not a request: numbers in the message. */
export class MalformedRequest extends Error {
  override readonly name = 'MalformedRequest';
}

/**
 * @param bytes one read(2) of the device, which is one request; kept, not copied.
 * @param hasSetxattrExt SETXATTR_EXT has been agreed on.
 * @throws MalformedRequest when the lengths do not agree.
 */
export function parseRequest(bytes: Uint8Array, hasSetxattrExt = false): Request {
  if (bytes.length < HEADER_BYTES) throw new MalformedRequest(`a request of ${bytes.length} bytes`);
  const header = readLayout(HEADER, bytes) as unknown as Header & { len: number; extlen: number };
  if (header.len !== bytes.length) {
    throw new MalformedRequest(`a request says ${header.len} bytes and has ${bytes.length}`);
  }
  const { opcode, unique, nodeid, uid, gid, pid } = header;
  // Extensions (supplementary groups, security context) come last; extlen counts units of 8 bytes.
  const extensionsAt = bytes.length - 8 * header.extlen;
  if (extensionsAt < HEADER_BYTES) {
    throw new MalformedRequest(
      `a request of ${bytes.length} bytes says that ${8 * header.extlen} are extensions`,
    );
  }
  const body = bytes.subarray(HEADER_BYTES, extensionsAt);
  const operation = operationOf(opcode, hasSetxattrExt);
  const fixedBytes = operation?.fixed.bytes ?? 0;
  if (body.length < fixedBytes) {
    throw new MalformedRequest(`${operation?.name ?? ''} has ${body.length} bytes of ${fixedBytes}`);
  }
  const fields = operation === undefined ? {} : readLayout(operation.fixed, body);
  const tail = parseTail(operation, body.subarray(fixedBytes));
  const label = operation?.name ?? (`OPCODE_${opcode}` as const);
  const groups = parseGroups(bytes.subarray(extensionsAt));
  return { opcode, unique, nodeid, uid, gid, pid, operation, label, fields, body, groups, ...tail };
}

function parseGroups(extensions: Uint8Array): number[] {
  const groups = [];
  const view = new DataView(extensions.buffer, extensions.byteOffset, extensions.byteLength);
  for (let at = 0; at + EXTENSION.bytes <= extensions.length;) {
    const { size, type } = readLayout(EXTENSION, extensions.subarray(at));
    const end = at + Number(size);
    if (end <= at || end > extensions.length) break;
    const first = at + EXTENSION.bytes + 4;
    const count = Number(type) === EXTENSION_GROUPS ? groupCount(view, at + EXTENSION.bytes, end) : 0;
    for (let nth = 0; nth < count; nth++) groups.push(view.getUint32(first + 4 * nth, true));
    at = end;
  }
  return groups;
}

function groupCount(extensions: DataView, at: number, end: number): number {
  if (end - at < 4) throw new MalformedRequest('a request has no room for its number of groups');
  const count = extensions.getUint32(at, true);
  if (at + 4 + 4 * count <= end) return count;
  throw new MalformedRequest(`a request says ${count} groups and has ${(end - at - 4) / 4}`);
}

type TailParts = Pick<Request, 'name' | 'secondName' | 'data' | 'forgets'>;

function parseTail(operation: Operation | undefined, tail: Uint8Array): TailParts {
  const none = { name: '', secondName: '', data: new Uint8Array(), forgets: [] };
  switch (operation?.tail) {
    case undefined:
    case 'none':
      return none;
    case 'data':
      return { ...none, data: tail };
    case 'forgets':
      return { ...none, forgets: parseForgets(tail) };
    case 'name':
      return { ...none, name: takeName(tail).name };
    case 'name newName':
    case 'name target': {
      const first = takeName(tail);
      return { ...none, name: first.name, secondName: takeName(first.rest).name };
    }
    case 'name value': {
      const { name, rest } = takeName(tail);
      return { ...none, name, data: rest };
    }
  }
}

function takeName(bytes: Uint8Array): { name: string; rest: Uint8Array } {
  const end = bytes.indexOf(0);
  if (end < 0) throw new MalformedRequest('a name without its end');
  return { name: Buffer.from(bytes.subarray(0, end)).toString('utf8'), rest: bytes.subarray(end + 1) };
}

function parseForgets(tail: Uint8Array): { nodeid: number; nlookup: number }[] {
  const forgets = [];
  for (let at = 0; at + FORGET_ONE.bytes <= tail.length; at += FORGET_ONE.bytes) {
    const { nodeid, nlookup } = readLayout(FORGET_ONE, tail.subarray(at));
    forgets.push({ nodeid: Number(nodeid), nlookup: Number(nlookup) });
  }
  return forgets;
}

/** A field that is a number. */
export function numberField(request: Request, name: string): number {
  return Number(request.fields[name] ?? 0);
}
