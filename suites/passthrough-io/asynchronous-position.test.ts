import { bytes, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;
/** Where the file position is (IORING_FEAT_RW_CUR_POS, io_uring_enter(2)). */
const FILE_POSITION = -1;
const WAYS = ['O_RDWR', 'O_RDWR|O_DIRECT'];

/**
 * Two writes of a page with io_uring into a new file, one after the other: what they say, what the file has then,
 * and the position. They make the file longer, which no filesystem does behind the caller's back: a direct
 * request that is queued leaves the position alone on ext4 as well.
 */
async function writeTwice(client: Client, path: string, flags: string) {
  const fd = await client.open({ path, flags: `O_CREAT|${flags}`, mode: 0o644 });
  const done = await client.uringChain({
    operations: ['1', '2'].map((digit) => {
      return { op: 'pwrite', fd, offset: FILE_POSITION, data: bytes(digit.repeat(PAGE)) };
    }),
  });
  const position = await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
  await client.close({ fd });
  const pages = pagesOf(text(await client.readFile({ path })));
  return { results: done.map(({ result }) => result), pages, position };
}

/** The first character of each page. */
function pagesOf(content: string): readonly string[] {
  return Array.from({ length: content.length / PAGE }, (_none, at) => content.charAt(at * PAGE));
}

const BOTH = { results: [PAGE, PAGE], pages: ['1', '2'], position: 2 * PAGE };

guestTest('io_uring writes at the file position, and the position moves (A26)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  for (const flags of WAYS) {
    t.deepEqual(await writeTwice(client, fuse.backing(`${flags} n`), flags), BOTH, `${flags}, natively`);
    t.deepEqual(await writeTwice(client, fuse.file(`${flags} p`), flags), BOTH, `${flags}, passthrough`);
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('io_uring reads at the file position, and the position moves (A26)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  for (const path of [fuse.backing('f'), fuse.file('f')]) {
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const read = { op: 'pread', fd, offset: FILE_POSITION, count: 4 } as const;
    const done = await client.uringChain({ operations: [read, read] });
    t.deepEqual(
      done.map(({ data }) => text(data ?? bytes(''))),
      ['0123', '4567'],
      path,
    );
    t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }), 8, path);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

for (const backing of ['ext4', 'xfs'] as const) {
  guestTest(
    `a direct write with io_uring over blocks that are there says how much it wrote, on ${backing} (A26)`,
    async (t, guest) => {
      await using disk = backing === 'xfs' ? await guest.spareDisk(backing) : undefined;
      await using fuse = await guest.mountFuse({ root: (await disk?.directory()) ?? backing });
      await using client = await guest.client();
      for (const path of [fuse.backing('native'), fuse.file('f')]) {
        await client.writeFile({ path, data: bytes('-'.repeat(4 * PAGE)) });
        const fd = await client.open({ path, flags: 'O_RDWR|O_DIRECT' });
        await client.fsync({ fd });
        const write = (at: number, data: string) =>
          ({ op: 'pwrite', fd, offset: at * PAGE, data: bytes(data.repeat(PAGE)) }) as const;
        const done = await client.uringChain({ operations: [write(0, '1'), write(2, '2')] });
        const results = done.map(({ result }) => result);
        t.deepEqual(results, [PAGE, PAGE], path);
        // A write that did not come to its end would hold this up.
        t.is(await client.errno.ftruncate({ fd, length: 3 * PAGE }), 'ok', path);
        await client.close({ fd });
        t.deepEqual(pagesOf(text(await client.readFile({ path }))), ['1', '-', '2'], path);
      }
      t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}

for (const [what, openFlags] of [
  ['a cached file', 0],
  ['a file in direct mode', OpenFlag.DIRECT_IO],
] as const) {
  guestTest(
    `without passthrough: io_uring writes at the position of ${what}, which moves (A26)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough: 'off' });
      await using client = await guest.client();
      await fuse.answerOpen({ opcode: ['OPEN', 'CREATE'] }, { openFlags });
      for (const flags of WAYS) t.deepEqual(await writeTwice(client, fuse.file(flags), flags), BOTH, flags);
    },
  );
}
