import { DeviceIoctl, backingMap } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

/** Leaves a process everything of root but the one capability that registering asks for. */
const WITHOUT_SYS_ADMIN = ['setpriv', '--bounding-set', '-sys_admin'];
/** An address at which no process has anything. */
const BAD_POINTER = 16;

guestTest('BACKING_OPEN before any mount is refused', async (t, guest) => {
  await using server = await guest.server();
  await using client = await guest.client();
  const path = `${await guest.directory('ext4')}/f`;
  await client.writeFile({ path, data: 'x' });
  const { device } = await server.openDevice();

  t.is(await server.registerErrno({ path, flags: 'O_RDWR' }, { device }), guest.expected.unattached);
  // Whether the descriptor or the pointer is looked at first.
  const { BACKING_OPEN } = DeviceIoctl;
  t.is(await server.ioctlErrno(BACKING_OPEN, 'bad-pointer', { device }), guest.expected.unattachedBadPointer);
});

guestTest('BACKING_OPEN without negotiated passthrough is refused', async (t, guest) => {
  const init = WITHOUT_PASSTHROUGH;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });

  const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
  t.is(await fuse.server.registerErrno(file), guest.expected.notNegotiated);
  // Asked before anything about the argument.
  t.is(await fuse.server.registerErrno({ fd: -1 }), guest.expected.notNegotiated);
  t.is(await fuse.server.registerErrno(file, { flags: 1 }), guest.expected.notNegotiated);
});

guestTest('BACKING_OPEN before the answer to INIT is refused', async (t, guest) => {
  const holdInit = { match: { opcode: 'INIT' }, action: { do: 'hold' } } as const;
  await using fuse = await guest.mountFuse({ waitForInit: false, rules: [holdInit] });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const init = await fuse.waitFor('INIT', 'held');

  const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
  t.is(await fuse.server.registerErrno(file), guest.expected.notNegotiated);
  await fuse.server.call('held.release', { seq: init.seq });
  t.is(await fuse.server.registerErrno(file), 'ok');
});

guestTest('BACKING_OPEN with an argument that cannot be read gives EFAULT', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  const { BACKING_OPEN } = DeviceIoctl;
  t.is(await fuse.server.ioctlErrno(BACKING_OPEN, 'null'), guest.expected.badPointer);
  t.is(await fuse.server.ioctlErrno(BACKING_OPEN, 'bad-pointer'), guest.expected.badPointer);
});

guestTest(
  'BACKING_OPEN with reserved fields set is refused before its file is looked at',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    const file = { path: fuse.backing('f'), flags: 'O_RDWR' };

    t.is(await fuse.server.registerErrno(file, { flags: 1 }), guest.expected.reservedField);
    t.is(await fuse.server.registerErrno({ fd: -1 }, { flags: 1 }), guest.expected.reservedField);
    t.is(await fuse.server.registerErrno(file, { padding: 1 }), guest.expected.padding);
  },
);

guestTest('BACKING_OPEN of a descriptor that nobody has gives EBADF', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  t.is(await fuse.server.registerErrno({ fd: -1 }), guest.expected.badFd);
  t.is(await fuse.server.registerErrno({ fd: 9999 }), guest.expected.badFd);
});

guestTest('BACKING_OPEN takes an O_PATH descriptor or not, as its generation does', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });

  const file = { path: fuse.backing('f'), flags: 'O_PATH' };
  t.is(await fuse.server.registerErrno(file), guest.expected.pathOnlyFd);
});

guestTest('BACKING_OPEN takes regular files only', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  const { server } = fuse;
  const { expected } = guest;

  t.is(await server.registerErrno({ path: fuse.root, flags: 'O_RDONLY|O_DIRECTORY' }), expected.directory);
  t.is(await server.registerErrno({ path: '/dev/null', flags: 'O_RDWR' }), expected.characterDevice);
  t.is(await server.registerErrno({ special: 'pipe' }), expected.pipe);
  t.is(await server.registerErrno({ special: 'socket' }), expected.socket);
  t.is(await server.registerErrno({ special: 'eventfd' }), expected.eventfd);
  t.is(await server.registerErrno({ special: 'memfd' }), 'ok');
});

guestTest('BACKING_OPEN refuses a file of a filesystem as deep as the limit', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  // procfs declares the greatest depth there is.
  const file = { path: '/proc/version', flags: 'O_RDONLY' };
  t.is(await fuse.server.registerErrno(file), guest.expected.procFile);
});

guestTest('BACKING_OPEN refuses a file of the same FUSE mount', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  // The server must not open its own file system itself: a client does, and the server takes the descriptor over.
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

  t.is(await fuse.server.registerErrno({ pid: client.pid, fd }), guest.expected.tooDeep);
  await client.close({ fd });
});

guestTest('requests that are almost BACKING_OPEN are told apart from it', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const fdFrom = { path: fuse.backing('f'), flags: 'O_RDWR' };
  const errno = (request: number): Promise<string> =>
    fuse.server.ioctlErrno(request, backingMap(-1), { fdFrom });

  const sizeOfTwelve = 0x400c_e501;
  const magicOneLess = 0x4010_e401;
  const numberUnknown = 0x4010_e570;
  t.is(await errno(sizeOfTwelve), guest.expected.wrongSize);
  t.is(await errno(magicOneLess), guest.expected.foreignMagic);
  t.is(await errno(numberUnknown), guest.expected.unknownNumber);
});

guestTest('BACKING_OPEN needs privilege in the initial user namespace', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using owner = await guest.client();
  await using stranger = await guest.client();
  await owner.writeFile({ path: fuse.backing('f'), data: 'x', mode: 0o666 });
  const device = await fuse.server.lendDevice(stranger);
  const fd = await stranger.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
  const arg = backingMap(fd);

  t.is(await stranger.errno.ioctl({ fd: device, request: DeviceIoctl.BACKING_OPEN, arg }), 'ok');
  await stranger.setCredentials({ uid: 65_534, gid: 65_534 });
  const errno = await stranger.errno.ioctl({ fd: device, request: DeviceIoctl.BACKING_OPEN, arg });
  t.is(errno, guest.expected.unprivileged);
});

guestTest(
  'an unknown request gets ENOTTY also on a descriptor that belongs to no mount',
  async (t, guest) => {
    await using server = await guest.server();
    const { device } = await server.openDevice();
    const { unknownNumber, wrongSize, foreignMagic, unattached } = guest.expected;
    const errno = (request: number): Promise<string> =>
      server.ioctlErrno(request, backingMap(-1), { device });
    t.is(await errno(0x4010_e570), unknownNumber, 'number');
    t.is(await errno(0x4010_e401), foreignMagic, 'magic');
    // Where the size does not matter, this is the known request.
    t.is(await errno(0x400c_e501), wrongSize === 'ok' ? unattached : wrongSize, 'size');
  },
);

guestTest(
  'BACKING_OPEN asks whether the descriptor is mounted before it reads its fields',
  async (t, guest) => {
    await using server = await guest.server();
    const { device } = await server.openDevice();
    t.is(await server.registerErrno({ fd: -1 }, { device }), guest.expected.unattached);
    t.is(await server.registerErrno({ fd: -1 }, { device, flags: 1 }), guest.expected.unattached);
  },
);

guestTest('BACKING_OPEN reads its argument before it asks whether passthrough is on', async (t, guest) => {
  const init = WITHOUT_PASSTHROUGH;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  const { BACKING_OPEN } = DeviceIoctl;
  t.is(await fuse.server.ioctlErrno(BACKING_OPEN, 'null'), guest.expected.badPointer);
  t.is(await fuse.server.ioctlErrno(BACKING_OPEN, 'bad-pointer'), guest.expected.badPointer);
});

guestTest(
  'BACKING_OPEN without CAP_SYS_ADMIN is refused after the pointer, before the fields',
  async (t, guest) => {
    guest.needs(guest.expected.unprivileged !== 'ok', 'check of the capability');
    await using fuse = await guest.mountFuse();
    await using client = await guest.client({ launcher: WITHOUT_SYS_ADMIN });
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    const device = await fuse.server.lendDevice(client);
    const fd = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
    const directory = await client.open({ path: fuse.root, flags: 'O_RDONLY' });
    const errno = (arg: Uint8Array | number): Promise<string> =>
      client.errno.ioctl({ fd: device, request: DeviceIoctl.BACKING_OPEN, arg });

    t.is(await errno(backingMap(fd)), guest.expected.unprivileged, 'all else right');
    t.is(await errno(BAD_POINTER), guest.expected.badPointer, 'bad pointer');
    t.is(await errno(backingMap(fd, 1)), guest.expected.unprivileged, 'flags set');
    t.is(await errno(backingMap(fd, 0, 1n)), guest.expected.unprivileged, 'padding set');
    t.is(await errno(backingMap(-1)), guest.expected.unprivileged, 'bad descriptor');
    t.is(await errno(backingMap(directory)), guest.expected.unprivileged, 'directory');
  },
);

guestTest('BACKING_OPEN by root of another user namespace is refused (B5)', async (t, guest) => {
  // Mounted in that namespace and negotiated there: nothing but the capability is missing.
  await using server = await guest.server({ launcher: ['unshare', '--user', '--map-root-user', '--mount'] });
  await using fuse = await guest.mountFuse({ server, passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });

  t.true(fuse.init?.passthrough, 'passthrough was offered and accepted');
  const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
  const { unprivileged, badFd } = guest.expected;
  t.is(await server.registerErrno(file), unprivileged);
  t.is(await server.registerErrno({ fd: -1 }), unprivileged === 'ok' ? badFd : unprivileged);
});

guestTest('BACKING_OPEN refuses every bit of flags and padding (B6)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const fdFrom = { path: fuse.backing('f'), flags: 'O_RDWR' };

  for (const bit of [0, 1, 15, 16, 31]) {
    const arg = backingMap(-1, (1 << bit) >>> 0);
    const errno = await fuse.server.ioctlErrno(DeviceIoctl.BACKING_OPEN, arg, { fdFrom });
    t.is(errno, guest.expected.reservedField, `flags bit ${bit}`);
  }
  for (const bit of [0, 31, 32, 63]) {
    const arg = backingMap(-1, 0, 1n << BigInt(bit));
    const errno = await fuse.server.ioctlErrno(DeviceIoctl.BACKING_OPEN, arg, { fdFrom });
    t.is(errno, guest.expected.padding, `padding bit ${bit}`);
  }
});

guestTest(
  'BACKING_OPEN looks at reserved fields first, then the kind of file, then its depth',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    const { server } = fuse;
    const { expected } = guest;
    const directory = { path: fuse.root, flags: 'O_RDONLY|O_DIRECTORY' };
    const deepFile = { path: '/proc/version', flags: 'O_RDONLY' };
    const deepDirectory = { path: '/proc', flags: 'O_RDONLY|O_DIRECTORY' };
    const deepSymlink = { path: '/proc/self', flags: 'O_PATH|O_NOFOLLOW' };

    t.is(await server.registerErrno({ fd: -1 }, { flags: 1 }), expected.reservedField, 'flags, no file');
    const padded = (otherwise: string): string => (expected.padding === 'ok' ? otherwise : expected.padding);
    t.is(await server.registerErrno({ fd: -1 }, { padding: 1 }), padded(expected.badFd), 'padding, no file');
    t.is(await server.registerErrno(directory, { flags: 1 }), expected.reservedField, 'flags, directory');
    t.is(
      await server.registerErrno(deepFile, { padding: 1 }),
      padded(expected.procFile),
      'padding, too deep',
    );
    t.is(await server.registerErrno(deepDirectory), expected.directory, 'directory, too deep');
    t.is(await server.registerErrno(deepSymlink), expected.symbolicLink, 'symbolic link, too deep');
    t.is(await server.registerErrno(deepFile), expected.procFile, 'only too deep');
  },
);

guestTest('BACKING_OPEN that fails uses up no id (B6, B7, B8)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const file = { path: fuse.backing('f'), flags: 'O_RDWR' };

  const before = await fuse.server.registerBacking(file);
  t.not(await fuse.server.registerErrno(file, { flags: 1 }), 'ok');
  t.not(await fuse.server.registerErrno({ fd: -1 }), 'ok');
  t.not(await fuse.server.registerErrno({ path: '/proc/version', flags: 'O_RDONLY' }), 'ok');
  t.is(await fuse.server.registerBacking(file), before + 1);
});

guestTest('BACKING_OPEN takes a file whatever it was opened for (B10)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  for (const flags of ['O_RDONLY', 'O_WRONLY', 'O_RDWR', 'O_RDWR|O_APPEND', 'O_RDWR|O_DIRECT']) {
    t.is(await fuse.server.registerErrno({ path: fuse.backing('f'), flags }), 'ok', flags);
  }
});
