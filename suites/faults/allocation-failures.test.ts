import type { ExecutionContext } from 'ava';
import { bytes, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { FailingAllocations, inWords, type Try } from '../lib/fail-nth.ts';
import { backingMap, DeviceIoctl } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { forgetId, needsMappings, openWithId } from '../lib/registration.ts';

/**
 * Every allocation of a call fails once. Whatever the call then says, the client is who it was, the backing
 * filesystem is free after the test, and the kernel has nothing to complain of: the last two are asked after
 * every test.
 */

const STRANGER = 1000;
const PAGE = 4096;

interface Setting {
  readonly fuse: FuseMount;
  /** Who is served: not root, so that rights that are left over show. */
  readonly client: Client;
  readonly failing: FailingAllocations;
  readonly whoAmI: () => Promise<string>;
}

async function withStranger(guest: TestGuest, use: (setting: Setting) => Promise<void>): Promise<void> {
  await using client = await guest.client();
  const failing = await FailingAllocations.of(guest, client);
  await using root = await guest.client();
  await using fuse = await guest.mountFuse({ allowOther: true });
  await root.writeFile({ path: fuse.backing('f'), data: 'x'.repeat(2 * PAGE) });
  await root.chmod({ path: fuse.backing('f'), mode: 0o666 });
  await root.chmod({ path: fuse.root, mode: 0o755 });
  await client.setCredentials({ uid: STRANGER, gid: STRANGER });
  const whoAmI = async (): Promise<string> => credentialLines(root, client.pid);
  await use({ fuse, client, failing, whoAmI });
}

/** Ids and capabilities of the thread that makes the failing calls: the client's first. */
async function credentialLines(reader: Client, pid: number): Promise<string> {
  const status = text(await reader.readFile({ path: `/proc/${pid}/status` }));
  return status
    .split('\n')
    .filter((line) => /^(?:Uid|Gid|Groups|CapEff):/u.test(line))
    .join('\n');
}

/** The call fails for want of memory or not at all; the last try had all it wanted. */
function assertTries(
  t: ExecutionContext,
  what: string,
  tries: readonly Try[],
  words: readonly string[] = ['ENOMEM'],
): void {
  t.log(`${what}: ${inWords(tries)}`);
  const odd = tries.filter(({ errno }) => errno !== 'ok' && !words.includes(errno));
  t.is(inWords(odd), '', `${what}: an allocation that fails is ${words.join(' or ')}, or does not matter`);
  t.true(
    tries.some(({ injected }) => injected),
    `${what}: no allocation was reached, nothing was tried`,
  );
  t.is(tries.at(-1)?.errno, 'ok', `${what} with all its memory`);
}

/** A file that the client has open, and the ioctl that registers it. */
async function beforeRegistration(guest: TestGuest, client: Client) {
  const failing = await FailingAllocations.of(guest, client);
  const fuse = await guest.mountFuse({ passthrough: 'off' });
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  const device = await fuse.server.lendDevice(client);
  const fd = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
  // Both generations have the same number, direction and size.
  const registration = { fd: device, request: DeviceIoctl.BACKING_OPEN, arg: backingMap(fd) };
  return { failing, fuse, fd, registration };
}

guestTest(
  'registering a file without memory is ENOMEM and keeps no file (H13, K01, K39)',
  async (t, guest) => {
    await using client = await guest.client();
    const { failing, fuse, fd, registration } = await beforeRegistration(guest, client);
    await using _fuse = fuse;
    const tries = await failing.each('ioctl', registration, async ({ errno, value }) => {
      if (errno !== 'ok') return;
      const { ret: id } = value as { readonly ret: number };
      t.true(id > 0, 'an id');
      t.is(await forgetId(guest, client, { fuse, id }), 'ok');
    });
    assertTries(t, 'registering', tries);
    await client.close({ fd });
    t.false(await guest.isBackingBusy(), 'nothing keeps the file that was not registered');
  },
);

guestTest(
  'a file that was registered without memory for credentials is not served with none (H13, K39)',
  async (t, guest) => {
    await using client = await guest.client();
    const { failing, fuse, fd, registration } = await beforeRegistration(guest, client);
    await using _fuse = fuse;
    await using reader = await guest.client();
    let served = 0;
    const tries = await failing.each('ioctl', registration, async ({ errno, value, nth }) => {
      if (errno !== 'ok') return;
      const { ret: id } = value as { readonly ret: number };
      const opened = await openWithId(guest, reader, { fuse, id });
      const data = await reader.pread({ fd: opened, count: 10, offset: 0 });
      t.is(text(data), 'served', `with the id that came in spite of failure ${nth}`);
      served += 1;
      const after = await fuse.position();
      await reader.close({ fd: opened });
      await fuse.waitFor({ opcode: 'RELEASE', after });
      if (guest.expected.hasClose) t.is(await forgetId(guest, client, { fuse, id }), 'ok');
    });
    assertTries(t, 'registering', tries);
    t.true(served > 0);
    t.deepEqual(await fuse.dataRequests(), []);
    await client.close({ fd });
  },
);

guestTest('opening in passthrough mode without memory fails cleanly (H13, K36)', async (t, guest) => {
  await withStranger(guest, async ({ fuse, client, failing, whoAmI }) => {
    const before = await whoAmI();
    let opened = 0;
    const tries = await failing.each(
      'open',
      { path: fuse.file('f'), flags: 'O_RDWR' },
      async ({ errno, value, nth }) => {
        t.is(await whoAmI(), before, `who the client is after failure ${nth}`);
        if (errno !== 'ok') return;
        opened += 1;
        t.is((await client.pread({ fd: value as number, count: 10, offset: 0 })).length, 10);
        await client.close({ fd: value as number });
      },
    );
    // A backing file that cannot be opened is EIO to who opens, whatever the reason.
    const kernelsWord = guest.expected.reopensBackingFile ? ['EIO'] : [];
    assertTries(t, 'open', tries, ['ENOMEM', ...kernelsWord]);
    t.true(opened > 0);
  });
});

guestTest('creating in passthrough mode without memory leaks nothing (H13, K36)', async (t, guest) => {
  await withStranger(guest, async ({ fuse, client, failing, whoAmI }) => {
    await using root = await guest.client();
    await root.chmod({ path: fuse.root, mode: 0o777 });
    const before = await whoAmI();
    const tries = await failing.each(
      'open',
      { path: fuse.file('new'), flags: 'O_RDWR|O_CREAT' },
      async ({ errno, value, nth }) => {
        t.is(await whoAmI(), before, `who the client is after failure ${nth}`);
        if (errno === 'ok') await client.close({ fd: value as number });
        await root.errno.unlink({ path: fuse.file('new') });
      },
    );
    const kernelsWord = guest.expected.reopensBackingFile ? ['EIO'] : [];
    assertTries(t, 'create', tries, ['ENOMEM', ...kernelsWord]);
  });
});

for (const [name, flags] of [
  ['buffered', 'O_RDWR'],
  ['direct', 'O_RDWR|O_DIRECT'],
] as const) {
  guestTest(
    `asynchronous ${name} I/O without memory gives the client its credentials back (H13, K03)`,
    async (t, guest) => {
      await withStranger(guest, async ({ fuse, client, failing, whoAmI }) => {
        const before = await whoAmI();
        const fd = await client.open({ path: fuse.file('f'), flags });
        const data = bytes('y'.repeat(PAGE));
        // io_submit(2) says EAGAIN where it has no memory for the request itself, and EINVAL where it has none to
        // look at the caller's mapping of the ring: it takes the context for one that there is not.
        const refusals = ['ENOMEM', 'EAGAIN', 'EINVAL'];
        for (const operation of [
          { op: 'pread', fd, count: PAGE, offset: 0 },
          { op: 'pwrite', fd, data, offset: 0 },
        ] as const) {
          const tries = await failing.each('aio', { operations: [operation] }, async ({ nth }) => {
            t.is(await whoAmI(), before, `who the client is after failure ${nth} of ${operation.op}`);
          });
          assertTries(t, `submitting ${operation.op}`, tries, refusals);
          const submitted = tries.filter(({ errno }) => errno === 'ok').map(completionOf);
          assertTries(t, `aio ${operation.op}`, submitted, ['ENOMEM', 'EAGAIN']);
        }
        await client.close({ fd });
        t.deepEqual(await fuse.dataRequests(), []);
      });
    },
  );
}

/** What the one operation completed with counts. */
function completionOf(made: Try): Try {
  const [completed] = (made.value ?? []) as readonly { readonly result: number | string }[];
  return typeof completed?.result === 'string' ? { ...made, errno: completed.result } : made;
}

guestTest(
  'mapping a passthrough file without memory maps nothing and keeps nothing (H13, K02)',
  async (t, guest) => {
    needsMappings(guest);
    await withStranger(guest, async ({ fuse, client, failing, whoAmI }) => {
      const before = await whoAmI();
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const args = { fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
      const tries = await failing.each('mmap', args, async ({ errno, value, nth }) => {
        t.is(await whoAmI(), before, `who the client is after failure ${nth}`);
        if (errno !== 'ok') return;
        const map = value as number;
        t.is(text(await client.mread({ map, offset: 0, length: 1 })), 'x');
        await client.munmap({ map });
      });
      assertTries(t, 'mmap', tries);
      await client.close({ fd });
      await fuse.waitFor('RELEASE');
    });
  },
);

for (const direction of ['from', 'to'] as const) {
  guestTest(
    `splice ${direction} a passthrough file without memory moves all or nothing (H13)`,
    async (t, guest) => {
      await withStranger(guest, async ({ fuse, client, failing, whoAmI }) => {
        const before = await whoAmI();
        const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
        const [readEnd, writeEnd] = await client.pipe({});
        const args =
          direction === 'from'
            ? { fdIn: fd, offIn: 0, fdOut: writeEnd, length: PAGE }
            : { fdIn: readEnd, fdOut: fd, offOut: 0, length: PAGE };
        if (direction === 'to') await client.write({ fd: writeEnd, data: 'z'.repeat(PAGE) });
        const tries = await failing.each('splice', args, async ({ errno, value, nth }) => {
          t.is(await whoAmI(), before, `who the client is after failure ${nth}`);
          if (errno !== 'ok') return;
          t.is(value, PAGE, 'all of it');
          if (direction === 'from') await client.read({ fd: readEnd, count: PAGE });
          else await client.write({ fd: writeEnd, data: 'z'.repeat(PAGE) });
        });
        assertTries(t, `splice ${direction}`, tries);
        await client.close({ fd });
        t.deepEqual(await fuse.dataRequests(), []);
      });
    },
  );
}
