# Cross compilation of the core for 64-bit Arm, its tests run by an emulator (Debian: gcc-aarch64-linux-gnu qemu-user):
#   cmake --preset neon && cmake --build --preset neon && (cd build/neon && ctest)
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64;-L;/usr/aarch64-linux-gnu)
