import type { ReplyRecord, RequestRecord } from '../../protocol/requests.ts';
import type { Request } from '../fuse/request.ts';
import { viewOf } from '../sys/bytes.ts';
import { sha1 } from '../sys/digest.ts';

/** The request log's view of a request: fixed fields, names, and what data are told by. */
export function describeArguments(request: Request): RequestRecord['args'] {
  const args: Record<string, number | string | readonly string[]> = { ...request.fields };
  if (request.name !== '') args['name'] = request.name;
  if (request.secondName !== '') {
    args[request.label === 'SYMLINK' ? 'target' : 'newName'] = request.secondName;
  }
  if (request.forgets.length > 0) {
    args['forgets'] = request.forgets.map(({ nodeid, nlookup }) => `${nodeid}*${nlookup}`);
  }
  if (request.groups.length > 0) args['groups'] = request.groups.map(String);
  if (request.label === 'NOTIFY_REPLY' || request.label === 'IOCTL') {
    args['sha1'] = sha1().update(request.data).digest('hex');
  }
  return args;
}

const ENTRY_BYTES = 128;
const OPEN_BYTES = 16;

/** What an answer to an open says, from its bytes: also when a rule has changed them. */
export function describeOpen(request: Request, body: Uint8Array): ReplyRecord['open'] {
  const at = openAt(request);
  if (at === undefined || body.length < at + OPEN_BYTES) return undefined;
  const view = viewOf(body);
  return {
    fh: Number(view.getBigUint64(at, true)),
    openFlags: view.getUint32(at + 8, true),
    backingId: view.getInt32(at + 12, true),
  };
}

function openAt(request: Request): number | undefined {
  switch (request.label) {
    case 'OPEN':
    case 'OPENDIR':
      return 0;
    case 'CREATE':
    case 'TMPFILE':
      return ENTRY_BYTES;
    default:
      return undefined;
  }
}
