import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { dropCaches } from '../lib/drop-caches.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** Writes and truncations on ecryptfs of which the lower server refuses a part: pages first, and then the size. */

const PAGE = 4096;
const HEADER_BYTES = 2 * PAGE;
/** Pages of a file, and one of them that no readahead from its beginning has read. */
const [PAGES, FAR] = [32, 30];
/** Of `fuse_setattr_in.valid`. */
const FATTR_SIZE = 1 << 3;

/** The header's first eight bytes. */
async function sizeInHeader(client: Client, fuse: FuseMount): Promise<number> {
  const stored = await client.readFile({ path: fuse.backing('f') });
  return Number(new DataView(stored.buffer, stored.byteOffset, 8).getBigUint64(0, false));
}

interface Change {
  /** Of the file before. */
  readonly from: number;
  readonly call: (client: Client, fd: number) => Promise<string>;
  /** Sizes afterwards: when the first WRITE is refused, the second one, none. Undefined: nothing is promised. */
  readonly sizes: readonly [number, number | undefined, number];
}

const CHANGES: Readonly<Record<string, Change>> = {
  'a write that makes it longer': {
    from: 0,
    call: (client, fd) => client.errno.pwrite({ fd, data: pattern(100), offset: 0 }),
    sizes: [0, undefined, 100],
  },
  'a write behind the end': {
    from: 0,
    call: (client, fd) => client.errno.pwrite({ fd, data: pattern(100), offset: PAGE }),
    sizes: [0, undefined, PAGE + 100],
  },
  'a truncation to more': {
    from: 0,
    call: (client, fd) => client.errno.ftruncate({ fd, length: 1 }),
    sizes: [0, undefined, 1],
  },
  'a truncation to less': {
    from: 3 * PAGE,
    call: (client, fd) => client.errno.ftruncate({ fd, length: PAGE + 100 }),
    sizes: [3 * PAGE, undefined, PAGE + 100],
  },
  'a truncation to whole pages': {
    from: 3 * PAGE,
    call: (client, fd) => client.errno.ftruncate({ fd, length: PAGE }),
    sizes: [3 * PAGE, undefined, PAGE],
  },
};

for (const [what, { from, call, sizes }] of Object.entries(CHANGES)) {
  guestTest(`${what} tells what the lower server refuses, the page as well as the size`, async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    for (const [at, size] of sizes.entries()) {
      const nth = at + 1;
      await client.writeFile({ path: ecryptfs.file('f'), data: pattern(from) });
      const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
      const match = { opcode: 'WRITE' } as const;
      const refused = nth < sizes.length;
      const allow = refused
        ? await fuse.rule({ match, nth, times: 1, action: { do: 'error', errno: 'EDQUOT' } })
        : undefined;
      t.is(await call(client, fd), refused ? 'EDQUOT' : 'ok', `WRITE ${nth}`);
      await allow?.();
      if (size !== undefined) {
        t.is((await client.fstat({ fd })).size, size, `WRITE ${nth}: size`);
        t.is(await sizeInHeader(client, fuse), size, `WRITE ${nth}: size in the header`);
      }
      await client.close({ fd });
      await client.unlink({ path: ecryptfs.file('f') });
    }
  });
}

guestTest('a write whose size cannot be set in an attribute tells so', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client, { more: ['ecryptfs_xattr_metadata'] });
  const { ecryptfs, fuse } = stack;
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
  const allow = await fuse.fail('SETXATTR', 'EDQUOT');
  t.is(await client.errno.pwrite({ fd, data: pattern(100), offset: 0 }), 'EDQUOT');
  await allow();
  t.is(await client.errno.pwrite({ fd, data: pattern(100), offset: 0 }), 'ok');
  const attribute = await client.getxattr({ path: fuse.backing('f'), name: 'user.ecryptfs' });
  t.deepEqual([...attribute.subarray(0, 8)], [0, 0, 0, 0, 0, 0, 0, 100]);
  await client.close({ fd });
});

guestTest('a lower file is cut only where whole pages of it are not needed any more', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.writeFile({ path: ecryptfs.file('f'), data: pattern(2 * PAGE) });
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
  for (const [length, cut] of [
    [PAGE + 100, null],
    [PAGE + 99, null],
    [PAGE + 1, null],
    [PAGE, HEADER_BYTES + PAGE],
    [1, null],
    [0, HEADER_BYTES],
  ] as const) {
    const after = await fuse.position();
    await client.ftruncate({ fd, length });
    const sizes = (await fuse.requests({ opcode: 'SETATTR', after }))
      .filter(({ args }) => (Number(args['valid']) & FATTR_SIZE) !== 0)
      .map(({ args }) => args['size']);
    t.deepEqual(sizes, cut === null ? [] : [cut], `to ${length}`);
    t.is(await sizeInHeader(client, fuse), length, `to ${length}: size in the header`);
  }
  await client.close({ fd });
});

guestTest(
  'a truncation of a file that is not open needs its lower file, and can do without an open',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    const data = pattern(3 * PAGE);
    await client.writeFile({ path: ecryptfs.file('f'), data });
    t.is(await ecryptfs.unmount(), 'ok');
    await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
    const path = again.file('f');
    t.is((await client.stat({ path })).size, data.length, 'it is known');
    // The first time nobody has opened it yet, and its key is not known; the second time it is.
    for (const length of [2 * PAGE + 7, PAGE + 7]) {
      const allow = await fuse.fail('OPEN', 'EACCES');
      t.is(await client.errno.truncate({ path, length }), 'EACCES', `to ${length}`);
      await allow();
      t.is(await client.errno.truncate({ path, length }), 'ok', `to ${length}`);
      t.is((await client.stat({ path })).size, length);
      t.is(firstDifference(await client.readFile({ path }), data.subarray(0, length)), undefined);
    }
  },
);

guestTest('attributes of a file that is none of ecryptfs are not changed through it', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await client.writeFile({ path: `${lower}/plain`, data: 'in the clear', mode: 0o600 });
  {
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'encrypted', mode: 0o600 });
  }
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const mode = async (name: string) => (await client.stat({ path: `${lower}/${name}` })).mode & 0o777;
  t.is(await client.errno.chmod({ path: ecryptfs.file('plain'), mode: 0o640 }), 'EIO');
  t.is(await client.errno.truncate({ path: ecryptfs.file('plain'), length: 1 }), 'EIO');
  t.is(await mode('plain'), 0o600);
  t.is((await client.stat({ path: `${lower}/plain` })).size, 12);
  t.is(await client.errno.chmod({ path: ecryptfs.file('f'), mode: 0o640 }), 'ok', 'of one that is');
  t.is(await mode('f'), 0o640);
});

guestTest(
  'a page that cannot be read below is not cut, spliced or written in part, but as a whole',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    const data = pattern(PAGES * PAGE);
    await client.writeFile({ path: ecryptfs.file('f'), data });
    t.is(await ecryptfs.unmount(), 'ok');
    await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
    const fd = await client.open({ path: again.file('f'), flags: 'O_RDWR' });
    const [, into] = await client.pipe({});
    const at = FAR * PAGE;
    const readable = await fuse.fail('READ', 'EIO');
    t.is(await client.errno.ftruncate({ fd, length: at + 10 }), 'EIO', 'a truncation into it');
    t.is((await client.fstat({ fd })).size, data.length);
    t.is(await client.errno.splice({ fdIn: fd, offIn: at, fdOut: into, length: PAGE }), 'EIO', 'a splice');
    t.is(await client.errno.pwrite({ fd, data: pattern(PAGE - 1, 5), offset: at }), 'EIO', 'most of it');
    t.is(await client.errno.pwrite({ fd, data: pattern(PAGE, 5), offset: at }), 'ok', 'all of it');
    await readable();
    data.set(pattern(PAGE, 5), at);
    const seen = await client.pread({ fd, count: 2 * data.length, offset: 0 });
    t.is(firstDifference(seen, data), undefined);
    await client.ftruncate({ fd, length: at + 10 });
    t.is((await client.fstat({ fd })).size, at + 10);
    for (const each of [fd, into]) await client.close({ fd: each });
  },
);

guestTest('a file in the clear is not written in part where it cannot be read', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client, { more: ['ecryptfs_passthrough'] });
  const { ecryptfs, fuse } = stack;
  const data = pattern(PAGES * PAGE);
  await client.writeFile({ path: fuse.backing('plain'), data });
  const fd = await client.open({ path: ecryptfs.file('plain'), flags: 'O_RDWR' });
  const write = { fd, data: pattern(10, 5), offset: FAR * PAGE + 10 };
  const readable = await fuse.fail('READ', 'EIO');
  t.is(await client.errno.pwrite(write), 'EIO');
  await readable();
  t.is(await client.errno.pwrite(write), 'ok');
  data.set(write.data, write.offset);
  t.is(firstDifference(await client.readFile({ path: fuse.backing('plain') }), data), undefined);
  await client.close({ fd });
});

guestTest('a header that cannot be read is told by the open, not by the lookup', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.writeFile({ path: ecryptfs.file('f'), data: pattern(100) });
  t.is(await ecryptfs.unmount(), 'ok');
  await dropCaches(client, 'pages');
  await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
  const path = again.file('f');
  const readable = await fuse.fail('READ', 'EIO');
  t.is((await client.stat({ path })).size, HEADER_BYTES + PAGE, 'the size of the lower file');
  t.is(await client.errno.open({ path, flags: 'O_RDONLY' }), 'EIO');
  await readable();
  t.is(firstDifference(await client.readFile({ path }), pattern(100)), undefined);
});

/** By where headers are: whether an encrypted view has to ask for an attribute. */
const VIEWS: Readonly<Record<string, readonly string[]>> = {
  'in the file': [],
  'in an attribute': ['ecryptfs_xattr_metadata'],
};

for (const [where, more] of Object.entries(VIEWS)) {
  guestTest(
    `an encrypted view of a file with its header ${where} tells what cannot be read`,
    async (t, guest) => {
      await using client = await guest.client();
      await using stack = await ecryptfsOnFuse(guest, client, { more });
      const { ecryptfs, fuse } = stack;
      await client.writeFile({ path: ecryptfs.file('f'), data: pattern(PAGES * PAGE) });
      t.is(await ecryptfs.unmount(), 'ok');
      const options = ecryptfsOptions(await guest.ecryptfsKey(), {
        more: [...more, 'ecryptfs_encrypted_view'],
      });
      await using view = await guest.mount({ source: fuse.path, type: 'ecryptfs', options }, client);
      const fd = await client.open({ path: view.file('f'), flags: 'O_RDONLY' });
      const page = { fd, count: PAGE, offset: FAR * PAGE };
      const readable = await fuse.fail('READ', 'EIO');
      t.is(await client.errno.pread(page), 'EIO', 'a page');
      await readable();
      t.is((await client.pread(page)).length, PAGE, 'when it can be read');
      if (more.length > 0) {
        const allow = await fuse.fail('GETXATTR', 'EIO');
        t.is(await client.errno.pread({ ...page, offset: 0 }), 'EINVAL', 'the header');
        await allow();
      }
      const header = await client.pread({ ...page, offset: 0 });
      t.deepEqual([...header.subarray(0, 8)], [0, 0, 0, 0, 0, 2, 0, 0], 'the size in the header');
      await client.close({ fd });
    },
  );
}

guestTest(
  'a write leaves no hole for which the lower file would be longer than RLIMIT_FSIZE',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await using limited = await guest.client();
    const fd = await limited.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
    await limited.signal({ signal: 'SIGXFSZ', disposition: 'ignore' });
    await limited.setrlimit({ resource: 'RLIMIT_FSIZE', soft: HEADER_BYTES + 4 * PAGE });
    const sizes = async () => [
      (await limited.fstat({ fd })).size,
      (await client.stat({ path: `${lower}/f` })).size,
    ];
    t.is(await limited.errno.pwrite({ fd, data: pattern(100), offset: 5 * PAGE }), 'EFBIG');
    t.deepEqual(await sizes(), [0, HEADER_BYTES], 'nothing is written for it');
    t.is(
      await limited.errno.pwrite({ fd, data: pattern(100), offset: 3 * PAGE }),
      'ok',
      'with its header just as long',
    );
    t.deepEqual(await sizes(), [3 * PAGE + 100, HEADER_BYTES + 4 * PAGE]);
    await limited.close({ fd });
  },
);

guestTest(
  'a write that the lower file takes a part of only is told as no more than that (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const data = pattern(PAGE);
    const half = HEADER_BYTES + PAGE / 2;
    let written;
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      await client.writeFile({ path: ecryptfs.file('whole'), data });
      await using limited = await guest.client();
      const fd = await limited.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
      await limited.signal({ signal: 'SIGXFSZ', disposition: 'ignore' });
      await limited.setrlimit({ resource: 'RLIMIT_FSIZE', soft: half });
      const [told] = await limited.batch({ calls: [{ call: 'pwrite', args: { fd, data, offset: 0 } }] });
      written = told !== undefined && 'value' in told ? Number(told.value) : 0;
      await limited.close({ fd });
      t.true((await client.stat({ path: `${lower}/f` })).size <= half, 'the lower file is within the limit');
      t.true(written <= PAGE / 2, `there is room for half a page, ${written} bytes are told as written`);
      t.is(await ecryptfs.unmount(), 'ok');
    }
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const seen = await client.readFile({ path: ecryptfs.file('f') });
    t.is(
      firstDifference(seen.subarray(0, written), data.subarray(0, written)),
      undefined,
      'what was told as written is there',
    );
    const whole = await client.readFile({ path: ecryptfs.file('whole') });
    t.is(firstDifference(whole, data), undefined, 'what there was room for');
  },
);
