import type { Client } from '../lib/client.ts';
import { ATTR, ENTRY, entryAnswer, u32, u64 } from '../lib/entry-answer.ts';
import { Opcode, type OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { answerRequest, initBody, nextRequest, openBody, type RawRequest } from '../lib/raw-server.ts';

/** Where a file is on a block device that FUSE is the filesystem of: FIBMAP, which the server is asked by BMAP. */

const FIBMAP = 1;
const LONG = 100_000;
const [EIO, ENOSYS] = [-5, -38];
const BLOCK_BYTES = 4096;
/** FIBMAP has room for a positive int. */
const TOO_FAR = 1n << 31n;

function fileAnswer(): Uint8Array {
  const body = entryAnswer({ nodeid: 2n, entryValidS: LONG });
  body.set(u64(BigInt(LONG)), ENTRY.attrValid);
  body.set(u64(8n * BigInt(BLOCK_BYTES)), ENTRY.attr + ATTR.size);
  body.set(u32(0o100_644), ENTRY.attr + ATTR.mode);
  body.set(u32(1), ENTRY.attr + ATTR.nlink);
  // What the server likes a file to be read by is another thing than the blocks of the mount.
  body.set(u32(BLOCK_BYTES / 4), ENTRY.attr + ATTR.blksize);
  return body;
}

/** Answers what is asked for on the way, as a server of one file does that knows little. @returns the request of that kind. */
async function untilAsked(server: Client, device: number, opcode: OpcodeName): Promise<RawRequest> {
  for (;;) {
    const request = await nextRequest(server, device);
    if (request.opcode === Opcode[opcode]) return request;
    const { unique } = request;
    const isLookup = request.opcode === Opcode.LOOKUP;
    await answerRequest(
      server,
      device,
      isLookup ? { unique, body: fileAnswer() } : { unique, error: ENOSYS },
    );
  }
}

async function answerNext(server: Client, device: number, opcode: 'INIT' | 'OPEN'): Promise<void> {
  const { unique } = await untilAsked(server, device, opcode);
  const body = opcode === 'INIT' ? initBody(31) : openBody(5n, 0, 0);
  await answerRequest(server, device, { unique, body });
}

guestTest(
  'the number of a block is what the server says, or 0, and a server without BMAP is asked once',
  async (t, guest) => {
    guest.needsBuilt(await guest.hasFilesystem('fuseblk'), 'fuseblk');
    const found = await guest.lease.call('spare-disk.find', {});
    const disk = found.device ?? guest.skip('this machine has no disk to spare');
    await using client = await guest.client();
    await using server = await guest.client();
    const device = await server.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
    const fd = await client.adoptFd({ pid: server.pid, fd: device });
    const options = `fd=${fd},rootmode=40000,user_id=0,group_id=0,blksize=${BLOCK_BYTES}`;
    await using mount = await guest.mount({ source: disk, type: 'fuseblk', options }, client);
    await client.close({ fd });
    await answerNext(server, device, 'INIT');
    const opening = client.open({ path: mount.file('f'), flags: 'O_RDONLY' });
    await answerNext(server, device, 'OPEN');
    const file = await opening;

    const asked = async (number: number, answer: { body?: Uint8Array; error?: number }): Promise<unknown> => {
      const arg = u32(number);
      const calling = client.ioctl({ fd: file, request: FIBMAP, arg }).catch(String);
      const { unique, nodeid, args } = await untilAsked(server, device, 'BMAP');
      const view = new DataView(args.buffer, args.byteOffset);
      t.is(nodeid, 2n, 'of the file');
      t.is(view.getBigUint64(0, true), BigInt(number), 'the block that is asked for');
      t.is(view.getUint32(8, true), BLOCK_BYTES, 'in blocks of the mount, not of st_blksize');
      await answerRequest(server, device, { unique, ...answer });
      const got = await calling;
      return typeof got === 'string' ? got : new DataView((got.arg ?? u32(0)).buffer).getUint32(0, true);
    };
    t.is(await asked(3, { body: u64(77n) }), 77, 'what the server says');
    t.is(await asked(0, { error: EIO }), 0, 'an error is no block');
    t.regex(String(await asked(5, { body: u64(TOO_FAR) })), /ERANGE/, 'a block that has no such number');
    t.is(await asked(6, { body: u64(78n) }), 78, 'asked again after an error');
    t.is(await asked(7, { error: ENOSYS }), 0, 'a server that does not know');
    const again = await client.ioctl({ fd: file, request: FIBMAP, arg: u32(3) });
    t.deepEqual(again.arg, u32(0), 'is not asked again: nobody would answer here');
    const end = client.close({ fd: file }).catch(() => undefined);
    const { unique } = await untilAsked(server, device, 'FLUSH');
    await answerRequest(server, device, { unique, error: ENOSYS });
    await end;
    // Without a server nobody waits for an answer to DESTROY.
    await server[Symbol.asyncDispose]();
  },
);
