import { pattern } from '../lib/bytes.ts';
import { SyscallError, type Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What inotify tells of two paths since it was last asked, in the order in which it happened. */
class Watch {
  readonly #client: Client;
  readonly #fd: number;
  readonly #sides = new Map<number, string>();

  private constructor(client: Client, fd: number) {
    this.#client = client;
    this.#fd = fd;
  }

  static async of(client: Client, paths: Readonly<Record<string, string>>): Promise<Watch> {
    const fd = await client.inotify_init({});
    const watch = new Watch(client, fd);
    for (const [side, path] of Object.entries(paths)) {
      watch.#sides.set(await client.inotify_add_watch({ fd, path, mask: 'IN_ALL_EVENTS' }), side);
    }
    return watch;
  }

  /** Names of the events on each side; the sides’ order among each other means nothing. */
  async seen(): Promise<Record<string, string[]>> {
    const found: Record<string, string[]> = {};
    for (const side of this.#sides.values()) found[side] = [];
    try {
      for (const { watch, names } of await this.#client.inotify_read({ fd: this.#fd })) {
        found[this.#sides.get(watch) ?? '']?.push(names);
      }
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno !== 'EAGAIN') throw error;
    }
    return found;
  }
}

type Step = (client: Client, fd: number) => Promise<unknown>;

/** A call on the open file, and what both sides are told of it. */
const STEPS: Readonly<Record<string, readonly [on: { fuse: string[]; backing: string[] }, Step]>> = {
  read: [
    { fuse: ['access'], backing: ['access'] },
    (client, fd) => client.pread({ fd, count: 10, offset: 0 }),
  ],
  write: [
    { fuse: ['modify'], backing: ['modify'] },
    (client, fd) => client.pwrite({ fd, data: 'x', offset: 0 }),
  ],
  'a read that fails': [
    { fuse: [], backing: [] },
    (client, fd) => client.errno.pread({ fd, count: 1, offset: -1 }),
  ],
};

guestTest(
  'inotify tells of reads and writes on FUSE and on the backing file, once each (A43)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(100) });
    await client.stat({ path: fuse.file('f') });
    const watch = await Watch.of(client, { fuse: fuse.file('f'), backing: fuse.backing('f') });

    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const opened = await watch.seen();
    t.deepEqual(opened['fuse'], ['open'], 'open');
    t.true(opened['backing']?.includes('open'), 'the backing file is opened, too');
    for (const [what, [expected, step]] of Object.entries(STEPS)) {
      await step(client, fd);
      t.deepEqual(await watch.seen(), expected, what);
    }
    await client.close({ fd });
    const closed = await watch.seen();
    t.deepEqual(closed['fuse'], ['close_write'], 'close');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('what is done to the backing file itself is not told on FUSE (A43, C10)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(100) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const watch = await Watch.of(client, { fuse: fuse.file('f'), backing: fuse.backing('f') });
  await client.writeFile({ path: fuse.backing('f'), data: 'changed', flags: 'O_WRONLY' });
  const { fuse: above, backing } = await watch.seen();
  t.deepEqual(above, []);
  t.deepEqual(backing, ['open', 'modify', 'close_write']);
  await client.close({ fd });
});

guestTest('fanotify names the client on FUSE, and on the backing file as well (A43)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using watcher = await guest.client();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(100) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  for (const path of [fuse.file('f'), fuse.backing('f')]) {
    const events = await watcher.fanotify_init({});
    const mark = { fd: events, flags: 'FAN_MARK_ADD', mask: 'IN_ACCESS|IN_MODIFY', path };
    await watcher.fanotify_mark(mark);
    await client.pread({ fd, count: 10, offset: 0 });
    await client.pwrite({ fd, data: 'x', offset: 0 });
    const seen = await watcher.fanotify_read({ fd: events });
    t.deepEqual(new Set(seen.map(({ pid }) => pid)), new Set([client.pid]), path);
    t.deepEqual(seen.map(({ names }) => names).join('|'), 'access|modify', path);
    await watcher.close({ fd: events });
  }
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});
