import { concat, bytes, firstDifference, pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';

const PAGE = 4096;
const SHARED = { prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' } as const;

guestTest('a shared mapping reads the backing file and sends no READ (A13)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(3 * PAGE + 100);
  await client.writeFile({ path: fuse.backing('f'), data });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });

  const map = await client.mmap({ fd, length: data.length, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  t.is(firstDifference(await client.mread({ map, offset: 0, length: data.length }), data), undefined);
  const second = await client.mmap({
    fd,
    length: PAGE,
    prot: 'PROT_READ',
    flags: 'MAP_SHARED',
    offset: 2 * PAGE,
  });
  const page = await client.mread({ map: second, offset: 0, length: PAGE });
  t.is(firstDifference(page, data.subarray(2 * PAGE, 3 * PAGE)), undefined, 'a mapping that begins later');
  await client.munmap({ map });
  await client.munmap({ map: second });
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a store in a shared mapping is in the backing file at once (A14)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(2 * PAGE);
  await client.writeFile({ path: fuse.backing('f'), data });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const map = await client.mmap({ fd, length: data.length, ...SHARED });

  await client.mwrite({ map, offset: PAGE - 2, data: 'STORED' });
  const expected = Uint8Array.from(data);
  expected.set(bytes('STORED'), PAGE - 2);
  t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), expected), undefined, 'backing');
  const back = await client.pread({ fd, offset: 0, count: data.length });
  t.is(firstDifference(back, expected), undefined, 'read of the descriptor');
  await client.msync({ map, flags: 'MS_SYNC' });
  await client.munmap({ map });
  await client.close({ fd });
  t.is(
    firstDifference(await client.readFile({ path: fuse.backing('f') }), expected),
    undefined,
    'after msync',
  );
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'a private mapping is copied on write and never reaches the backing file (A15)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const data = pattern(2 * PAGE);
    await client.writeFile({ path: fuse.backing('f'), data });
    // A read-only descriptor is enough for it.
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const map = await client.mmap({
      fd,
      length: data.length,
      prot: 'PROT_READ|PROT_WRITE',
      flags: 'MAP_PRIVATE',
    });

    await client.mwrite({ map, offset: 10, data: 'PRIVATE' });
    t.is(text(await client.mread({ map, offset: 10, length: 7 })), 'PRIVATE');
    const rest = await client.mread({ map, offset: PAGE, length: PAGE });
    t.is(firstDifference(rest, data.subarray(PAGE)), undefined, 'the page that was not touched');
    t.is(firstDifference(await client.pread({ fd, offset: 0, count: data.length }), data), undefined, 'read');
    await client.munmap({ map });
    await client.close({ fd });
    t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), data), undefined, 'backing');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'mapping, another descriptor and the backing path agree, whoever writes (D20)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
    const mapped = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const map = await client.mmap({ fd: mapped, length: 2 * PAGE, ...SHARED });
    const through = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const direct = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
    const native = await client.mmap({ fd: direct, length: 2 * PAGE, ...SHARED });
    const writers = {
      'the mapping': (data: string, offset: number) => client.mwrite({ map, offset, data }),
      'another descriptor': (data: string, offset: number) => client.pwrite({ fd: through, offset, data }),
      'the backing path': (data: string, offset: number) => client.pwrite({ fd: direct, offset, data }),
      'a mapping of the backing path': (data: string, offset: number) => {
        return client.mwrite({ map: native, offset, data });
      },
    };

    for (const [index, [who, write]] of Object.entries(writers).entries()) {
      const offset = PAGE - 3 + 100 * index;
      const data = `written ${index}`;
      await write(data, offset);
      const range = { offset, length: data.length, count: data.length };
      const seen = {
        map: text(await client.mread({ map, ...range })),
        through: text(await client.pread({ fd: through, ...range })),
        direct: text(await client.pread({ fd: direct, ...range })),
        native: text(await client.mread({ map: native, ...range })),
      };
      t.deepEqual(seen, { map: data, through: data, direct: data, native: data }, `written by ${who}`);
    }
    for (const handle of [map, native]) await client.munmap({ map: handle });
    for (const fd of [mapped, through, direct]) await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a mapping shows what a later write adds to its last page (A13)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'begin' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const map = await client.mmap({ fd, length: 2 * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  t.deepEqual(await client.mread({ map, offset: 0, length: 8 }), concat(bytes('begin'), new Uint8Array(3)));

  const data = pattern(PAGE);
  await client.pwrite({ fd, data, offset: 5 });
  const seen = await client.mread({ map, offset: 0, length: PAGE + 5 });
  t.is(firstDifference(seen, concat(bytes('begin'), data)), undefined);
  await client.munmap({ map });
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a load beyond the end of the file ends the client with SIGBUS (A17)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE + 1) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const map = await client.mmap({ fd, length: 3 * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });

  // The rest of the last page is zeros; the page after it is not there.
  t.deepEqual(await client.mread({ map, offset: PAGE + 1, length: 3 }), new Uint8Array(3));
  const load = client.mread({ map, offset: 2 * PAGE, length: 1 }).catch(() => undefined);
  t.is((await client.exited()).signal, 'SIGBUS');
  await load;
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('truncating under a mapping takes its pages away (A17)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using mapper = await guest.client();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
  const fd = await mapper.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const map = await mapper.mmap({ fd, length: 2 * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  t.is((await mapper.mread({ map, offset: PAGE, length: 16 })).length, 16);

  await client.truncate({ path: fuse.file('f'), length: 10 });
  const tail = await mapper.mread({ map, offset: 10, length: PAGE - 10 });
  t.is(firstDifference(tail, new Uint8Array(PAGE - 10)), undefined, 'zeros behind the new end');
  const load = mapper.mread({ map, offset: PAGE, length: 1 }).catch(() => undefined);
  t.is((await mapper.exited()).signal, 'SIGBUS');
  await load;
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('mmap asks for no more than the descriptor may (A13)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
  const reader = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const writer = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY' });

  t.is(await client.errno.mmap({ fd: reader, length: PAGE, ...SHARED }), 'EACCES', 'to write, from O_RDONLY');
  const read = { length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' };
  t.is(await client.errno.mmap({ fd: writer, ...read }), 'EACCES', 'to read, from O_WRONLY');
  for (const fd of [reader, writer]) await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  '/proc/PID/maps names the path of FUSE and the inode of the backing file (A19)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });

    const { ino } = await client.stat({ path: fuse.backing('f') });
    const maps = text(await client.readFile({ path: `/proc/${client.pid}/maps` })).split('\n');
    const line = maps.find((each) => each.split(/\s+/)[4] === String(ino) && each.includes('/f'));
    t.truthy(line, 'a mapping of the backing inode');
    t.true(line?.endsWith(guest.expected.mappingPath === 'fuse' ? fuse.file('f') : fuse.backing('f')), line);
    await client.munmap({ map });
    await client.close({ fd });
  },
);
