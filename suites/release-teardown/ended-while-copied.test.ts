import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { Opcode, type InitFlagName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { nextRequest, outHeader } from '../lib/raw-server.ts';

/**
 * A connection that ends while a request is copied to its server, or an answer from it: the server's memory is a
 * mapping of a file of another FUSE filesystem, which is slow to give a page.
 */

const PAGE = 4096;
const ROOM = 2 * PAGE;
const HEADER_BYTES = 40;
const OUT_HEADER = 16;
const ENTRY_BYTES = 128;
const RW = { prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' } as const;

interface Bench {
  readonly fuse: FuseMount;
  /** Of the file that is the memory of `server`. */
  readonly slow: FuseMount;
  readonly server: Client;
  readonly device: number;
  readonly map: number;
}

/** A mount whose server has been replaced by a client, and that client's memory, of which no page is there yet. */
async function slowMemory(
  guest: TestGuest,
  stack: AsyncDisposableStack,
  addFlags: readonly InitFlagName[] = [],
): Promise<Bench> {
  const slow = stack.use(await guest.mountFuse({ passthrough: 'off', attrValidS: 1000, entryValidS: 1000 }));
  const init = { maxWrite: PAGE, addFlags };
  const fuse = stack.use(await guest.mountFuse({ passthrough: 'off', init }));
  const server = stack.use(await guest.client());
  await server.writeFile({ path: slow.backing('memory'), data: new Uint8Array(4 * PAGE) });
  const fd = await server.open({ path: slow.file('memory'), flags: 'O_RDWR' });
  const map = await server.mmap({ fd, length: 4 * PAGE, ...RW });
  // A page is asked for by itself, when it is touched.
  await server.madvise({ map, advice: 'MADV_RANDOM' });
  await server.close({ fd });
  const device = await fuse.server.lendDevice(server);
  await fuse.server.kill('SIGKILL');
  return { fuse, slow, server, device, map };
}

for (const [addFlags, errno] of [
  [[], 'ENODEV'],
  [['ABORT_ERROR'], 'ECONNABORTED'],
] as const) {
  const what = addFlags.length === 0 ? 'without' : 'with';
  guestTest(
    `${what} ABORT_ERROR a request that is being copied when its connection is aborted ends at once (H3)`,
    async (t, guest) => {
      await using stack = new AsyncDisposableStack();
      const { fuse, slow, server, device, map } = await slowMemory(guest, stack, addFlags);
      await using client = await guest.client();
      const hold = await slow.hold('READ');
      const asking = client.errno.stat({ path: fuse.file('f') });
      t.is(await fuse.untilWaiting(1), 1, 'the request is in the queue');
      const reading = server.errno.readInto({ fd: device, map, offset: 0, length: ROOM });
      const page = await hold.arrived();
      await fuse.abort();
      t.is(await asking, 'ECONNABORTED', 'who has asked, while the server has no memory yet');
      t.is(await client.errno.stat({ path: fuse.file('f') }), 'ENOTCONN', 'who asks now');
      await hold.stop();
      await hold.release(page);
      t.is(await reading, errno, 'the server, when it has');
      t.is(await server.errno.read({ fd: device, count: ROOM }), errno);
      t.is(await fuse.waiting(), 0);
    },
  );
}

guestTest(
  'a request is copied to memory that is slow to come, and its answer from there (H3)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { fuse, slow, server, device, map } = await slowMemory(guest, stack);
    await using client = await guest.client();
    const hold = await slow.hold('READ');
    const asking = client.errno.stat({ path: fuse.file('f') });
    t.is(await fuse.untilWaiting(1), 1, 'the request is in the queue');
    const reading = server.readInto({ fd: device, map, offset: 0, length: ROOM });
    await hold.release(await hold.arrived());
    const length = await reading;
    const request = await server.mread({ map, offset: 0, length });
    const view = new DataView(request.buffer, request.byteOffset, length);
    t.is(view.getUint32(4, true), Opcode.LOOKUP);
    t.is(text(request.subarray(HEADER_BYTES)), 'f\0', 'what is asked for');

    // The header in the page that is there, and what follows in one that is not. It is all zero: no such name.
    const header = outHeader({ unique: view.getBigUint64(8, true), bodyBytes: ENTRY_BYTES });
    await server.mwrite({ map, offset: PAGE - OUT_HEADER, data: header });
    const whole = { fd: device, map, offset: PAGE - OUT_HEADER, length: OUT_HEADER + ENTRY_BYTES };
    const writing = server.errno.writeFrom(whole);
    await hold.release(await hold.arrived());
    t.is(await writing, 'ok');
    t.is(await asking, 'ENOENT');
    await hold.stop();
  },
);

guestTest(
  'an answer that is being copied when its connection is aborted answers nothing any more (H3)',
  async (t, guest) => {
    await using stack = new AsyncDisposableStack();
    const { fuse, slow, server, device, map } = await slowMemory(guest, stack);
    await using client = await guest.client();
    const asking = client.errno.stat({ path: fuse.file('f') });
    const { unique } = await nextRequest(server, device);
    const header = outHeader({ unique, bodyBytes: ENTRY_BYTES });
    await server.mwrite({ map, offset: PAGE - OUT_HEADER, data: header });
    const hold = await slow.hold('READ');
    const whole = { fd: device, map, offset: PAGE - OUT_HEADER, length: OUT_HEADER + ENTRY_BYTES };
    const writing = server.errno.writeFrom(whole);
    const page = await hold.arrived();
    await fuse.abort();
    t.is(await asking, 'ECONNABORTED', 'who has asked, while the answer is not there yet');
    await hold.stop();
    await hold.release(page);
    t.is(await writing, 'ENOENT', 'the server, when it is');
    t.is(await fuse.waiting(), 0);
  },
);
