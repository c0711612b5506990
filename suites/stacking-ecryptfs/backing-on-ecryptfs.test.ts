import { bytes, firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { depthInWords, needsMaxStackDepth } from '../lib/stack-depth.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

const PAGE = 4096;

/** FUSE over ecryptfs over a directory on ext4. */
interface Served extends AsyncDisposable {
  readonly fuse: FuseMount;
  readonly ecryptfs: StackedMount;
  readonly lower: string;
}

async function serveEcryptfs(
  guest: TestGuest,
  client: Client,
  options: Pick<FuseOptions, 'defaultPermissions'> = {},
): Promise<Served> {
  await using undo = new AsyncDisposableStack();
  const lower = await guest.directory('ext4', 'encrypted');
  const ecryptfs = undo.use(await guest.mountEcryptfs({ lower }, client));
  const init = { maxStackDepth: 2 };
  const fuse = undo.use(await guest.mountFuse({ root: ecryptfs.path, init, ...options }));
  const all = undo.move();
  return { fuse, ecryptfs, lower, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

guestTest(
  'what is written through FUSE is clear on ecryptfs and encrypted below it (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await serveEcryptfs(guest, client);
    const secret = 'nobody may read this on the disk';
    const data = bytes(secret.repeat(300));

    await client.writeFile({ path: stack.fuse.file('f'), data });
    t.is(firstDifference(await client.readFile({ path: stack.fuse.file('f') }), data), undefined, 'FUSE');
    t.is(
      firstDifference(await client.readFile({ path: stack.ecryptfs.file('f') }), data),
      undefined,
      'ecryptfs',
    );
    const fd = await client.open({ path: stack.ecryptfs.file('f'), flags: 'O_RDWR' });
    await client.fsync({ fd });
    await client.close({ fd });
    const stored = Buffer.from(await client.readFile({ path: `${stack.lower}/f` }));
    t.true(stored.length > data.length, 'the lower file has a header and all of the data');
    t.false(stored.includes(secret), 'the lower file does not have the text');
    t.deepEqual(await stack.fuse.dataRequests(), []);
  },
);

guestTest(
  'scattered writes, appends and stores to a file on ecryptfs agree with a model (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await serveEcryptfs(guest, client);
    const model = new Uint8Array(20_005);
    model.set(pattern(20_000));
    await client.writeFile({ path: stack.ecryptfs.file('f'), data: model.subarray(0, 20_000) });

    const fd = await client.open({ path: stack.fuse.file('f'), flags: 'O_RDWR' });
    for (const [index, offset] of [0, 4090, 13_000].entries()) {
      const part = pattern(100, index + 2);
      await client.pwrite({ fd, data: part, offset });
      model.set(part, offset);
    }
    const append = await client.open({ path: stack.fuse.file('f'), flags: 'O_WRONLY|O_APPEND' });
    await client.write({ fd: append, data: 'added' });
    model.set(bytes('added'), 20_000);
    await client.close({ fd: append });
    t.is(firstDifference(await client.pread({ fd, count: 30_000, offset: 0 }), model), undefined, 'read(2)');

    if (guest.expected.mapsBackingFile) {
      const whole = { offset: 0, length: model.length };
      const map = await client.mmap({ fd, ...whole, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
      t.is(firstDifference(await client.mread({ map, ...whole }), model), undefined, 'mapping');
      await client.mwrite({ map, offset: 8190, data: bytes('stored') });
      model.set(bytes('stored'), 8190);
      await client.munmap({ map });
    }
    await client.close({ fd });
    t.is(
      firstDifference(await client.readFile({ path: stack.ecryptfs.file('f') }), model),
      undefined,
      'ecryptfs',
    );
    t.deepEqual(await stack.fuse.dataRequests(), []);
  },
);

guestTest('with max_stack_depth 1 a file on ecryptfs is refused (E6)', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 1 } });
  await client.writeFile({ path: ecryptfs.file('f'), data: 'secret' });

  const errno = await fuse.server.registerErrno({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
  t.is(errno, guest.expected.tooDeep, depthInWords('backing file on ecryptfs', 1, 1));
  const below = { path: `${lower}/f`, flags: 'O_RDWR' };
  t.is(await fuse.server.registerErrno(below), 'ok', depthInWords('its lower file on ext4', 0, 1));
  t.is(await ecryptfs.unmount(), 'ok', 'a refused registration holds nothing');
});

guestTest('O_DIRECT is refused with EIO where ecryptfs has none (A12)', async (t, guest) => {
  if (!guest.expected.reopensBackingFile) guest.skip('open does not open the backing file');
  await using client = await guest.client();
  await using stack = await serveEcryptfs(guest, client);
  await client.writeFile({ path: stack.ecryptfs.file('f'), data: 'secret' });

  const open = { flags: 'O_RDONLY|O_DIRECT' };
  t.is(await client.errno.open({ path: stack.ecryptfs.file('f'), ...open }), 'EINVAL', 'ecryptfs itself');
  t.is(await client.errno.open({ path: stack.fuse.file('f'), ...open }), 'EIO', 'through FUSE');
  t.is(text(await client.readFile({ path: stack.fuse.file('f') })), 'secret', 'without O_DIRECT it opens');
  t.deepEqual(await stack.fuse.dataRequests(), []);
});

guestTest(
  'O_DIRECT that is set after the open does not reach ecryptfs, which has none (A9, K26)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await serveEcryptfs(guest, client);
    const data = pattern(2 * PAGE);
    await client.writeFile({ path: stack.ecryptfs.file('f'), data });
    const fd = await client.open({ path: stack.fuse.file('f'), flags: 'O_RDWR' });
    const native = await client.open({ path: stack.ecryptfs.file('f'), flags: 'O_RDWR' });
    t.is(await client.errno.fcntl({ fd: native, cmd: 'F_SETFL', arg: 'O_DIRECT' }), 'EINVAL', 'itself');
    t.is(await client.errno.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_DIRECT' }), 'ok', 'FUSE cannot know');
    const { heedsDirect } = guest.expected;
    const sync = heedsDirect ? 'EINVAL' : 'ok';
    t.is(await client.errno.pread({ fd, count: PAGE, offset: 0 }), sync, 'read');
    t.is(await client.errno.pwrite({ fd, data: data.subarray(0, PAGE), offset: 0 }), sync, 'write');
    const [asynchronous] = await client.aio({ operations: [{ op: 'pread', fd, count: PAGE, offset: 0 }] });
    t.is(asynchronous?.result, heedsDirect ? 'EINVAL' : PAGE, 'asynchronous read');

    await client.fcntl({ fd, cmd: 'F_SETFL', arg: '' });
    const seen = await client.pread({ fd, count: 2 * PAGE, offset: 0 });
    t.is(firstDifference(seen, data), undefined, 'without O_DIRECT again');
    for (const each of [fd, native]) await client.close({ fd: each });
    t.deepEqual(await stack.fuse.dataRequests(), []);
  },
);

guestTest(
  'a client without the key and without privilege reads what ecryptfs decrypts (F14)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await serveEcryptfs(guest, client, { defaultPermissions: true });
    await client.writeFile({ path: stack.fuse.file('f'), data: 'decrypted', mode: 0o644 });
    await client.chmod({ path: stack.lower, mode: 0o755 });
    await using stranger = await guest.client();
    await stranger.setCredentials({ uid: 1000, gid: 1000 });

    t.is(text(await stranger.readFile({ path: stack.fuse.file('f') })), 'decrypted');
    t.is(
      await stranger.errno.open({ path: stack.fuse.file('f'), flags: 'O_WRONLY' }),
      'EACCES',
      'the mode of the file still counts',
    );
    t.deepEqual(await stack.fuse.dataRequests(), []);
  },
);
