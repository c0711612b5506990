import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { FATTR_FH, type OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** The time of a change that the kernel keeps (FUSE_WRITEBACK_CACHE), told to the server by a SETATTR of its own. */

const PAGE = 4096;
/** 2001. Nanoseconds. */
const LONG_AGO_NS = 1e18;

/** include/uapi/linux/fuse.h */
const FATTR_MTIME = 1 << 5;
const FATTR_CTIME = 1 << 10;

/** Changes to what is known of a file but not to the file, which change its ctime. */
const CHANGES: Readonly<Record<string, (client: Client, fuse: FuseMount) => Promise<unknown>>> = {
  link: (client, fuse) => client.link({ from: fuse.file('f'), to: fuse.file('link') }),
  rename: (client, fuse) => client.rename({ from: fuse.file('f'), to: fuse.file('g') }),
  'unlink of another name': (client, fuse) => client.unlink({ path: fuse.file('other') }),
  setxattr: (client, fuse) => client.setxattr({ path: fuse.file('f'), name: 'user.x', data: 'v' }),
};

/** `valid` and `fh` of each SETATTR. */
async function told(fuse: FuseMount, after: number): Promise<[number, number][]> {
  const requests = await fuse.requests({ opcode: 'SETATTR', after });
  return requests.map(({ args }) => [Number(args['valid']), Number(args['fh'])]);
}

for (const minor of [23, 22]) {
  const times = minor === 23 ? FATTR_MTIME | FATTR_CTIME : FATTR_MTIME;
  guestTest(
    `what a server of version 7.${minor} is told of the time of a change names the open file, where there is one`,
    async (t, guest) => {
      for (const [what, change] of Object.entries(CHANGES)) {
        for (const flags of ['', 'O_RDONLY', 'O_WRONLY']) {
          await using fuse = await mountWritebackCache(guest, { init: { minor } });
          await using client = await guest.client();
          await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
          await client.link({ from: fuse.backing('f'), to: fuse.backing('other') });
          for (const name of ['f', 'other']) await client.stat({ path: fuse.file(name) });
          const fd = flags === '' ? -1 : await client.open({ path: fuse.file('f'), flags });
          const after = await fuse.position();
          await change(client, fuse);
          const [first] = await told(fuse, after);
          const open = flags === 'O_WRONLY';
          const opened = open ? await fuse.waitFor('OPEN') : undefined;
          const wanted = [times | (open ? FATTR_FH : 0), opened?.reply?.open?.fh ?? 0];
          t.deepEqual(first, wanted, `${what}, open ${flags || 'nowhere'}`);
          if (fd >= 0) await client.close({ fd });
        }
      }
    },
  );
}

interface Carried {
  readonly opcode: readonly OpcodeName[];
  readonly call: (client: Client, fd: number) => Promise<unknown>;
  /** Whether the time of the change is that at which the server has answered, or that of the call. */
  readonly time: 'answer' | 'call';
}

const COPIED = ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'] as const;

/** Changes to a file of two pages that the server carries out. */
const CARRIED_OUT: Readonly<Record<string, Carried>> = {
  'room beyond the end': {
    opcode: ['FALLOCATE'],
    call: (client, fd) => client.fallocate({ fd, offset: PAGE, length: 2 * PAGE }),
    time: 'answer',
  },
  'room up to the end': {
    opcode: ['FALLOCATE'],
    call: (client, fd) => client.fallocate({ fd, offset: PAGE, length: PAGE }),
    time: 'call',
  },
  'a hole': {
    opcode: ['FALLOCATE'],
    call: (client, fd) =>
      client.fallocate({ fd, mode: 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', offset: 0, length: PAGE }),
    time: 'call',
  },
  'a copy within the file': {
    opcode: COPIED,
    call: (client, fd) =>
      client.copy_file_range({ fdIn: fd, offIn: 0, fdOut: fd, offOut: PAGE, length: PAGE }),
    time: 'answer',
  },
};

guestTest(
  'the time of a change by the server is that of its answer where a file grows or is copied to, else that of the call',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await using other = await guest.client();
    for (const [what, { opcode, call, time }] of Object.entries(CARRIED_OUT)) {
      const path = fuse.backing(what);
      await client.writeFile({ path, data: pattern(2 * PAGE) });
      await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
      const fd = await client.open({ path: fuse.file(what), flags: 'O_RDWR' });
      const mtime = async (): Promise<number> =>
        (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).mtimeNs;
      const hold = await fuse.hold({ opcode });
      const calling = call(client, fd);
      calling.catch(() => undefined);
      const request = await hold.arrived();
      const called = await mtime();
      t.true(called > LONG_AGO_NS, `${what}: the file is changed with the call`);
      // Until what is changed now has another time.
      const clock = async (): Promise<number> => {
        await other.writeFile({ path: fuse.backing('clock'), data: 'tick' });
        return (await other.stat({ path: fuse.backing('clock') })).mtimeNs;
      };
      t.true((await eventually(clock, (now) => now > called)) > called);
      await hold.release(request);
      await hold.stop();
      await calling;
      t.is((await mtime()) > called ? 'answer' : 'call', time, `${what}: the time that the kernel keeps`);
      t.is((await client.stat({ path })).mtimeNs, await mtime(), `${what}: the time that the server is told`);
      await client.close({ fd });
    }
  },
);
